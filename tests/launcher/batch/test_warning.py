"""What Slurm sends a job before its time limit: as users, sites and the setting say it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shipway_launcher.batch.choice import choose_options
from shipway_launcher.batch.settings import BatchSettings
from shipway_launcher.batch.useroptions import Option
from shipway_launcher.batch.warning import LimitWarning, find_warning
from shipway_launcher.manifest import parse_manifest
from tests.launcher.manifests import make_manifest


@pytest.mark.parametrize(
    ("value", "lead_s", "is_usr1"),
    [
        ("USR1", 60, True),
        ("B:USR1@120", 120, True),
        ("RB:sigusr1@5", 5, True),
        ("10@300", 300, True),
        ("TERM@300", 300, False),
        ("R:15", 60, False),
    ],
)
def test_an_option_of_sbatch_is_read(value: str, lead_s: int, is_usr1: bool) -> None:
    found = find_warning([Option(name="signal", value="KILL"), Option(name="signal", value=value)])
    assert found == LimitWarning(lead_s=lead_s, is_usr1=is_usr1)


@pytest.mark.parametrize("value", ["", "@5", "USR1@", "USR1@1m", "two words"])
def test_what_only_slurm_can_read_is_left_to_it(value: str) -> None:
    assert find_warning([Option(name="signal", value=value)]) is None
    assert find_warning([]) is None


@pytest.mark.parametrize(
    ("of_user", "of_site", "expected"),
    [
        ([], [], ["TERM@120"]),
        (["--signal=B:USR1@30"], [], ["B:USR1@30"]),
        ([], ["--signal=USR2@10"], ["USR2@10"]),
        (["--signal", "USR1"], ["--signal=USR2@10"], ["USR2@10", "USR1"]),
    ],
    ids=["the setting", "the user's", "the site's option", "both, of which the last counts"],
)
def test_the_setting_stands_back(
    of_user: list[str], of_site: list[str], expected: list[str]
) -> None:
    settings = BatchSettings.model_validate({"signal_lead_s": 120, "options": of_site})
    manifest = parse_manifest(make_manifest(slurm_arguments=[" ".join(of_user)]))
    options = choose_options(
        manifest,
        job_name="j",
        dispatch_id="d",
        folder="/jobs/d",
        version=None,
        cluster=None,
        pass_wckey=False,
        site_options=settings.options,
        signal=settings.signal_option,
    )
    given = [*options.site, *options.user, *options.own]
    assert [option.value for option in given if option.name == "signal"] == expected


def test_without_a_lead_time_nothing_is_sent() -> None:
    assert BatchSettings.model_validate({"signal": "USR1"}).signal_option is None


@pytest.mark.parametrize("setting", [{"signal": "KILL"}, {"signal_lead_s": 0}])
def test_what_slurm_would_not_take_is_refused(setting: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BatchSettings.model_validate(setting)
