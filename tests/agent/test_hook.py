from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from shipway_agent.config import HookSettings
from shipway_agent.hook import OutageHook
from tests.lab.processes import is_alive

ENVIRON = {"PATH": "/usr/bin:/bin"}


def hook(*words: str | Path, **settings: float) -> OutageHook:
    values = {"on_connection_lost": [str(word) for word in words], "after_s": 10, **settings}
    return OutageHook(HookSettings.model_validate(values), ENVIRON)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.01)


async def test_it_runs_once_per_outage_when_that_is_old_enough(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    async with hook("/bin/sh", "-c", f"echo x >> {file}") as told:
        for age_s, runs in [(0, 0), (9, 0), (11, 1), (300, 1), (0.5, 1), (12, 2)]:
            await told.note(age_s, gives_up=False)
            await until(lambda runs=runs: file.read_text().count("x") >= runs)  # type: ignore[misc]
            assert file.read_text().count("x") == runs
        await told.note(13, gives_up=True)
        assert file.read_text().count("x") == 2


async def test_it_runs_to_its_end_when_the_agent_gives_up(tmp_path: Path) -> None:
    async with hook("/bin/sh", "-c", f"sleep 0.3; touch {tmp_path}/file") as told:
        await told.note(0, gives_up=True)
        assert (tmp_path / "file").exists()


async def test_the_agent_tries_on_while_it_runs(tmp_path: Path) -> None:
    async with hook("/bin/sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.05; done") as told:
        await told.note(11, gives_up=False)
        await told.note(12, gives_up=False)
        (tmp_path / "go").touch()


async def test_one_that_runs_when_the_agent_stops_is_ended(tmp_path: Path) -> None:
    async with hook("/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 1000") as told:
        await told.note(11, gives_up=False)
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_one_that_hangs_is_ended_with_its_children(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with hook("/bin/sh", "-c", "sleep 1000 & sleep 1000", timeout_s=0.2) as told:
        async with asyncio.timeout(60):
            await told.note(11, gives_up=True)
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
        async with hook(*words) as told:
            await told.note(11, gives_up=True)
    assert text in caplog.text
