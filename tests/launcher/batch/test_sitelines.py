"""What a site adds to each script: templates whose values are quoted, and options."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from pydantic import ValidationError

from shipway_launcher.batch.settings import BatchSettings
from shipway_launcher.batch.sitelines import SITE_NAMES, render_site_lines
from shipway_launcher.errors import WrongRequest
from tests.launcher.batch.test_script import HOSTILE


@pytest.mark.parametrize("text", [*HOSTILE, "two\nlines", "{{ owner }}", "", "a'; touch x; '"])
def test_values_reach_bash_as_they_are(text: str) -> None:
    values = dict.fromkeys(SITE_NAMES, "") | {"payload": text}
    lines = render_site_lines("batch.before", "printf '<%s>' {{ payload }}\n", values)
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout == f"<{text}>"


def test_a_template_can_choose() -> None:
    template = "{% if partition == 'gpu' %}\nmodule load cuda\n{% endif %}\n"
    chosen = [
        render_site_lines("batch.before", template, dict.fromkeys(SITE_NAMES, name))
        for name in ("gpu", "cpu")
    ]
    assert chosen == ["module load cuda", ""]


def test_a_template_that_fails_for_one_manifest_is_named() -> None:
    template = "{% if image %}{{ image.nothing.there }}{% endif %}"
    with pytest.raises(WrongRequest, match=r"batch\.after in the launcher's settings"):
        render_site_lines("batch.after", template, dict.fromkeys(SITE_NAMES, "y"))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("before", "a\n{% if x\n", "line 2"),
        ("before", "{{ nobody }}", "known names are dispatch_id"),
        ("after", "{{ owner.__class__.__mro__ }}", "unsafe"),
        ("after", "a\r\nb", "carriage return"),
        ("after", "a\n#SBATCH --mem=1", "batch.options"),
        ("options", ["--output=x"], "--output is not configurable"),
        ("options", ["mem"], "not of the form"),
    ],
)
def test_mistakes_are_found_at_the_start(key: str, value: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BatchSettings(**{key: value})
