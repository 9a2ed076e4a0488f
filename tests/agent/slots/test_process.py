"""Drivers that hang, crash, print nonsense, or do not let go of who asked them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import SlotOptions, detect_slots
from shipway_agent.slots.process import StuckProcesses, helper
from shipway_agent.slots.watch import SlotWatch
from tests.agent.slots.fake_driver import FakeDriver
from tests.lab.processes import is_alive, wait_until


async def found(options: SlotOptions) -> dict[int, str | None]:
    return {slot.id: slot.problem for slot in (await detect_slots(options)).slots}


def children() -> set[str]:
    """List the processes that this one started, the ended ones that nobody waited for included."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found.update((task / "children").read_text().split())
    return found


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ({"STOP1": 1}, "did not answer within 1 s"),
        ({"HANG1": 60}, "did not answer within 1 s"),
        ({"CRASH1": 1}, "crashed (SIGSEGV)"),
    ],
    ids=["stopped", "hangs", "crashes"],
)
async def test_one_device_costs_only_itself(
    driver: FakeDriver, says: dict[str, int], words: str
) -> None:
    driver.says(N=3, **says)
    before = children()
    told = await found(driver.options(slot_type="cuda", timeout_s=1.0))
    assert words in (told.pop(1) or "")
    assert told == {0: None, 2: None}
    assert children() == before


async def test_devices_that_all_hang_take_a_limited_time(driver: FakeDriver) -> None:
    driver.says(N=64, **{f"HANG{index}": 60 for index in range(64)})
    told = await found(driver.options(slot_type="cuda", timeout_s=0.3))
    assert len(told) == 64
    assert all(told.values())
    assert "too slowly" in (told[63] or "")


@pytest.mark.parametrize("kib", [1, 4096], ids=["a little", "megabytes"])
async def test_nonsense_without_an_end_is_no_answer(driver: FakeDriver, kib: int) -> None:
    # A library that writes to descriptors that it found open hits the helper's own.
    driver.says(N=2, GARBAGE=kib)
    looks = found(driver.options(slot_type="cuda", timeout_s=2))
    if kib < 1024:
        assert await looks == {0: None, 1: None}
    else:
        with pytest.raises(SlotsUnknown, match="answered with what is no answer"):
            await looks


async def test_a_flood_on_stdout_reaches_nobody(driver: FakeDriver) -> None:
    driver.says(FLOOD=1)
    with pytest.raises(SlotsUnknown, match=r"did not answer within 0\.6 s"):
        await found(driver.options(slot_type="cuda", timeout_s=0.2))


async def test_who_is_not_let_go_is_not_followed_by_others(driver: FakeDriver) -> None:
    options = driver.options(slot_type="cuda", timeout_s=1.0)
    watch = SlotWatch(options, await detect_slots(options))
    uuid = watch.offered[1].uuid
    before = children()
    driver.says(HELD1=1, STAYS=1)
    await watch.look()
    assert "did not answer" in (watch.problem(uuid) or "")
    held = children() - before
    assert len(held) == 1
    driver.says(STAYS=1)  # it would answer now, but a process of ours is still in it
    for _ in range(3):
        await watch.look()
        assert f"still holds process {next(iter(held))}" in (watch.problem(uuid) or "")
        assert watch.problem(watch.offered[0].uuid) is None
        assert children() - before == held
    driver.says()
    async with asyncio.timeout(60):
        while watch.problem(uuid) is not None:
            await watch.look()
    assert children() == before


async def test_a_helper_takes_its_children_along(tmp_path: Path) -> None:
    script = "sleep 1000 & echo $! ; exec sleep 1000"
    async with helper(
        ["/bin/sh", "-c", script], os.environ, subject="test", stuck=StuckProcesses()
    ) as running:
        child = int(await running.stdout.readline())
        os.kill(child, 0)
    async with asyncio.timeout(60):
        while is_alive(child):  # noqa: ASYNC110 (another process ends)
            await asyncio.sleep(0.02)


async def test_a_helper_that_cannot_be_started_is_an_error_that_names_it(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(SlotsUnknown, match="/nonexistent/python"):
        await found(driver.options(slot_type="cuda"))


def test_a_helper_does_not_outlive_an_agent_that_is_killed(driver: FakeDriver) -> None:
    driver.says(HANGINIT=1000)
    program = (
        "import asyncio, os; from shipway_agent.slots.nvidia import read_gpus;"
        " asyncio.run(read_gpus(environ=os.environ, timeout_s=1000))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **driver.environ}
    ) as agent:
        wait_until(lambda: _find_asking(agent.pid), "a helper asks the driver", limit_s=60)
        helper_pid = _find_asking(agent.pid)
        agent.kill()
    assert helper_pid is not None
    wait_until(lambda: not is_alive(helper_pid), "the helper ends", limit_s=60)


def _find_asking(parent: int) -> int | None:
    """Find the helper of a process once it has the driver's library."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(OSError):  # it may have ended meanwhile
            if "libnvidia-ml" in Path(f"/proc/{pid}/maps").read_text():
                return int(pid)
    return None
