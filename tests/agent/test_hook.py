from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from shipway_agent.config import HookSettings
from shipway_agent.hook import OutageHook

ENVIRON = {"PATH": "/usr/bin:/bin"}


def hook(*words: str | Path, **settings: float) -> OutageHook:
    values = {"on_connection_lost": [str(word) for word in words], "after_s": 10, **settings}
    return OutageHook(HookSettings.model_validate(values), ENVIRON)


async def test_it_runs_once_per_outage_when_that_is_old_enough(tmp_path: Path) -> None:
    file = tmp_path / "file"
    told = hook("/bin/sh", "-c", f"echo x >> {file}")
    for age_s, runs in [(0, 0), (9, 0), (11, 1), (300, 1), (0.5, 1), (12, 2)]:
        await told.note(age_s, gives_up=False)
        assert (file.read_text().count("x") if file.exists() else 0) == runs


async def test_it_runs_when_the_agent_gives_up(tmp_path: Path) -> None:
    await hook("touch", tmp_path / "file").note(0, gives_up=True)
    assert (tmp_path / "file").exists()


async def test_one_that_hangs_is_ended_with_its_children(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.get_running_loop().time()
    await hook("/bin/sh", "-c", "sleep 1000 & sleep 1000", timeout_s=0.2).note(11, gives_up=False)
    assert asyncio.get_running_loop().time() - begun < 5
    assert "did not end in 0.2 s" in caplog.text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/no/such/program"], "cannot be started"),
        (["/bin/sh", "-c", "echo why >&2; exit 3"], "exit status 3: why"),
    ],
)
async def test_one_that_fails_is_only_logged(
    caplog: pytest.LogCaptureFixture, words: list[str], text: str
) -> None:
    with caplog.at_level(logging.ERROR):
        await hook(*words).note(11, gives_up=False)
    assert text in caplog.text
