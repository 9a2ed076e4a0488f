"""From a manifest to a batch script for PBS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shipway_launcher.carriers.table import Manager, choose_carrier
from shipway_launcher.dispatches.prepare import Prepared, prepare
from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Resources, parse_manifest
from shipway_launcher.pbs.job import choose_job_name
from shipway_launcher.pbs.script import render_directive
from shipway_launcher.pbs.select import select_chunks
from shipway_launcher.pbs.settings import PbsSettings
from shipway_launcher.pbs.useroptions import parse_user_options
from tests.lab.pbs_stand_in import split_words
from tests.launcher.dispatches.test_prepare import make_site
from tests.launcher.manifests import make_manifest

CARRIER = "com.cray.analytics.capsules.carriers.hpc.pbs.PodmanOverPbs"


def prepared(options: Sequence[str] = (), pbs: Any = None, **changes: Any) -> Prepared:
    values = {"carrier": CARRIER, "image": "a:1", "pbs_arguments": list(options), **changes}
    manifest = parse_manifest(make_manifest(**values))
    carrier = choose_carrier(manifest.carriers, Manager.PBS)
    site = make_site(pbs=PbsSettings.model_validate(pbs or {}))
    return prepare(manifest, carrier, site, dispatch_id="9d0c.1", owner="alice")


def directives(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.startswith("#PBS ")]


@pytest.mark.parametrize(
    ("resources", "select", "scatters"),
    [
        (Resources(per_node=1, gpus_total=8), "8:ngpus=1", False),
        (Resources(per_node=1, gpus_total=8, gpus_per_instance=4), "2:ngpus=4", True),
        (Resources(per_node=1, gpus_total=7, gpus_per_instance=4), "2:ngpus=4", True),
        (Resources(nodes=3, gpus_per_node=2), "3:ngpus=2", True),
        (Resources(nodes=3), "3", True),
        (Resources(nodes=3, cores_per_node=4, cores_per_instance=4), "3:ncpus=4", True),
        (Resources(nodes=3, cores_per_node=1), "3:ncpus=1", True),
        (Resources(nodes=1, gpus_total=4), "1:ngpus=4", False),
        (Resources(nodes=1, gpus_total=4, gpus_per_instance=2), "1:ngpus=4", False),
    ],
)
def test_every_row_of_the_table(resources: Resources, select: str, scatters: bool) -> None:
    selection = select_chunks(resources, {})
    assert (selection.select, selection.scatters) == (select, scatters)


def test_what_cannot_be_shared_out_is_rounded_up_and_told() -> None:
    (note,) = select_chunks(Resources(per_node=1, gpus_total=7, gpus_per_instance=4), {}).notes
    assert "8 were asked for instead" in note
    with pytest.raises(WrongRequest, match="needs instances"):
        select_chunks(Resources(per_node=2), {})


def test_a_users_select_adds_to_the_computed_one() -> None:
    script = prepared(
        ["-l select=2:ngpus=4:mem=4gb:ncpus=8", "-l place=pack,walltime=1:00:00"],
        resources={"instances": {"per-node": 1}, "gpus": {"total": 4}},
    ).script
    assert "#PBS -l select=4:ngpus=1:mem=4gb:ncpus=8" in directives(script)
    assert "#PBS -l walltime=1:00:00" in directives(script)
    assert "place=" not in "\n".join(directives(script))
    assert "-l place is left out" in script
    script = prepared(["-l select=2:ncpus=4:mem=4gb"]).script
    assert "#PBS -l select=1:ncpus=1:mem=4gb" in directives(script)


def test_the_launchers_options_stand_last() -> None:
    lines = directives(prepared(["-A team", "-N mine"], {"options": ["-A site -p 3"]}).script)
    assert lines == [
        "#PBS -p 3",
        "#PBS -A team",
        "#PBS -N det-ai_cmd-9d0c7a3e-9d0c.1",
        "#PBS -q gpu",
        "#PBS -l select=1:ncpus=1",
        "#PBS -S /bin/bash",
        "#PBS -o /lustre/launcher/jobs/environments/alice/9d0c.1/output.log",
        "#PBS -e /lustre/launcher/jobs/environments/alice/9d0c.1/error.log",
        "#PBS -k oed",
        "#PBS -r n",
        "#PBS -W umask=0022",
        "#PBS -V",
        "#PBS -v SHIPWAY_DISPATCH=9d0c.1",
    ]


@pytest.mark.parametrize(
    "option",
    [
        *("--version", "--", "-cs", "-C x", "-e /x", "-Gx", "-h", "-I", "-j oe", "-J 1-9", "-k oe"),
        *("-o x", "-q x", "-r y", "-R e", "-S /bin/sh", "-u bob", "-v A", "-V", "-W block=true"),
        *("-X", "-z", "-A team -o /x", "-hA x", "-l walltime=1 -V"),
    ],
)
def test_what_users_cannot_give_is_refused(option: str) -> None:
    with pytest.raises(WrongRequest, match=r"PBS option -\S* is not configurable"):
        prepared([option])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("-l walltime=1\n#PBS -o /x", "control character"),
        ("-Q x", "-Q is unknown"),
        ("-A", "-A needs a value"),
        ("walltime=1", "not of the form"),
        ('-P "a', "not closed"),
        ("-l mem", "is no NAME=VALUE"),
        ("-l select=1:mem=1gb+2:mem=2gb", "only one kind of chunk"),
        ("-l select=2:mem", "is no resource"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(option: str, words: str) -> None:
    with pytest.raises(WrongRequest, match=words):
        prepared([option])


@pytest.mark.parametrize(
    ("option", "read"),
    [
        ('-P "a -e b"', {"P": "a -e b"}),
        (r'-P "say \"hi\" \\ x"', {"P": r'say "hi" \ x'}),
        ("-A a\\ b", {"A": "a b"}),
        ("-m abe -M 'x@y'", {"m": "abe", "M": "x@y"}),
        ("-fAteam", {"f": None, "A": "team"}),
        ("-a 1200", {"a": "1200"}),
        ("  ", {}),
    ],
)
def test_options_are_read_as_qsub_splits_them(option: str, read: dict[str, str | None]) -> None:
    assert parse_user_options([option]).options == read


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "a b",
        "it's",
        'say "hi"',
        "a\\b",
        "$(id) `id`",
        "both ' and \"",
        "día",
        'end"\\',
        "end\\",
    ],
)
def test_qsub_reads_what_was_meant(value: str) -> None:
    line = render_directive(("P", value))
    assert split_words(line) == ["-P", value]
    assert not line.endswith("\\"), "qsub would go on in the next line"


def test_a_project_can_be_kept_from_pbs() -> None:
    assert not any(
        "-P" in line for line in directives(prepared(['-P "x"'], {"pass_project": False}).script)
    )


def test_names_fit_into_pbs() -> None:
    name = choose_job_name("ai_" + "x" * 500, "9" * 100)
    assert len(name) == 230
    assert name.startswith("det-ai_xxx")
    assert name.endswith("x-" + "9" * 100)
    assert len(choose_job_name("ai", "9" * 200)) == 4 + 2 + 1 + 200


def test_the_script_is_the_same_every_time_and_as_recorded() -> None:
    found = prepared(
        ["-l walltime=1:00:00"],
        resources={"instances": {"per-node": 1}, "gpus": {"total": 4}},
        environment={"DET_TASK_TYPE": "TRIAL"},
        configuration={"queue": "gpuq"},
    )
    assert found.script == Path(__file__).with_name("script.sh").read_text()
