"""The rounds of the watch: who waits for which, and what a silent Slurm does to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from shipway_launcher.carriers.damper import ReasonDamper
from shipway_launcher.errors import BackendError, BackendUnreachable
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.watch import Watch
from tests.launcher.dispatches.test_outcome import make_row


class Slurm:
    """Answers when it is told to; only what the watch asks."""

    def __init__(self) -> None:
        self.questions = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: BackendError | None = None

    async def jobs(self) -> list[JobRow]:
        self.questions += 1
        asked = self.questions
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [make_row(name=str(asked))]


@asynccontextmanager
async def watching(slurm: Slurm, *, interval_s: float = 60, **changes: Any) -> AsyncIterator[Watch]:
    async def follow(rows: Sequence[JobRow]) -> None:
        pass

    watch = Watch(
        cast("SlurmBackend", slurm),
        changes.get("follow", follow),
        is_needed=changes.get("is_needed", lambda: True),
        interval_s=interval_s,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        try:
            yield watch
        finally:
            task.cancel()


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_true():  # noqa: ASYNC110 (it is the subject that is looked at)
            await asyncio.sleep(0.01)


async def test_an_answer_is_never_older_than_the_question() -> None:
    slurm = Slurm()
    async with watching(slurm) as watch:
        await until(lambda: slurm.questions == 1)
        slurm.gate.clear()
        first = asyncio.ensure_future(watch.fresh())
        await until(lambda: slurm.questions == 2)
        late = [asyncio.ensure_future(watch.fresh()) for _ in range(50)]
        await asyncio.sleep(0.05)
        slurm.gate.set()
        assert [row.name for row in (await first).rows] == ["2"]
        for answer in late:
            assert [row.name for row in (await answer).rows] == ["3"], "the one that began later"
        assert slurm.questions == 3, "all of them share one"


async def test_silence_is_an_answer_of_its_own_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    slurm = Slurm()
    slurm.error = BackendUnreachable("down")
    async with watching(slurm) as watch:
        for _ in range(3):
            seen = await watch.fresh()
            with pytest.raises(BackendUnreachable):
                seen.jobs()
        slurm.error = None
        assert (await watch.fresh()).jobs()
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ["Slurm does not answer; states are kept: down"]


async def test_a_mistake_about_one_job_does_not_end_the_watch() -> None:
    async def follow(rows: Sequence[JobRow]) -> None:
        raise RuntimeError("mistake")

    async with watching(Slurm(), follow=follow) as watch:
        assert (await watch.fresh()).jobs()
        assert (await watch.fresh()).jobs()


async def test_nothing_is_asked_when_there_is_nothing_to_watch() -> None:
    slurm, needed = Slurm(), False
    async with watching(slurm, interval_s=0.01, is_needed=lambda: needed) as watch:
        await until(lambda: slurm.questions == 1)
        await asyncio.sleep(0.2)
        assert slurm.questions == 1
        await watch.fresh()
        assert slurm.questions == 2
        needed = True
        await until(lambda: slurm.questions > 3)


async def test_who_waits_when_the_launcher_stops_is_told() -> None:
    slurm = Slurm()
    async with watching(slurm) as watch:
        await until(lambda: slurm.questions == 1)
        slurm.gate.clear()
        going = asyncio.ensure_future(watch.fresh())
        await until(lambda: slurm.questions == 2)
        late = asyncio.ensure_future(watch.fresh())
        await asyncio.sleep(0.05)
    for answer in (going, late, asyncio.ensure_future(watch.fresh())):
        async with asyncio.timeout(60):
            assert "stopping" in str((await answer).error)


def test_reasons_that_go_back_and_forth_are_shown_steadily() -> None:
    time_s = 0.0
    damper = ReasonDamper(clock=lambda: time_s)
    shown: list[str] = []
    reasons = ["None", "Priority", "Resources", "Priority", "Resources", *["Priority"] * 4]
    for reason in reasons:
        (row,) = damper.damp([make_row("PENDING", reason=reason)])
        shown.append(row.reason)
        time_s += 10
    assert shown == ["None", "Priority", *["Resources"] * 6, "Priority"]
    (row,) = damper.damp([make_row("RUNNING", reason="None")])
    assert row.reason == "None"
    (row,) = damper.damp([make_row("PENDING", reason="BeginTime")])
    assert row.reason == "BeginTime", "it waits anew"
