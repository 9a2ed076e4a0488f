"""Jobs under a real Slurm: started by srun on two nodes, and pre-empted."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.agent.job.conftest import eventually, make_task, write_task
from tests.agent.job.stand_in import StandInRelay
from tests.lab.slurm import Slurm

# As the launcher's batch script does it: the shell stays free for signals, and srun gets none.
SCRIPT = """#!/bin/bash
srun -N "$SLURM_NNODES" -n "$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 \\
  {agent} job {task_file} &
pid=$!
forward() {{ again=1; scancel --signal="$1" "$SLURM_JOB_ID"; }}
for signal in TERM USR1; do trap "forward $signal" "$signal"; done
while :; do again=; wait "$pid"; rc=$?; [ "$again" ] || break; done
exit "$rc"
"""

SLEEP = "while :; do sleep 0.05; done"


class Batch:
    """Submits jobs and says what became of them."""

    def __init__(self, slurm: Slurm, folder: Path) -> None:
        self._slurm, self._folder = slurm, folder

    async def submit(self, task_file: Path, *options: str) -> str:
        script = SCRIPT.format(
            agent=shlex.join([sys.executable, "-m", "shipway_agent"]),
            task_file=shlex.quote(str(task_file)),
        )
        path = self._folder / "script.sh"
        path.write_text(script)
        return await self.sbatch(
            *["--partition=cancel", "--nodes=2", "--gres=gpu:2", "--no-requeue"],
            *[f"--output={self._folder}/out", f"--error={self._folder}/err", *options],
            str(path),
        )

    async def preempt(self) -> str:
        """Take all nodes for something more urgent."""
        words = ["--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null"]
        return await self.sbatch(*words, "--wrap", "sleep 0.1")

    async def sbatch(self, *words: str) -> str:
        done = await asyncio.to_thread(self._slurm.run, ["sbatch", "--parsable", *words])
        return done.stdout.strip()

    async def end(self, job: str) -> tuple[str, str]:
        """Wait for the end; returns state and exit code."""
        states = ("COMPLETED", "FAILED", "CANCELLED", "PREEMPTED", "TIMEOUT", "NODE_FAIL")
        await asyncio.to_thread(self._slurm.wait_for_job, job, *states, limit_s=60)
        shown = await asyncio.to_thread(self._slurm.run, ["scontrol", "show", "job", job])
        found = re.search(r"JobState=(\S+).*?ExitCode=(\S+)", shown.stdout, re.DOTALL)
        assert found
        return found[1], found[2]

    def text(self, name: str) -> str:
        return (self._folder / name).read_text(errors="replace")


@pytest.fixture
async def batch(slurm: Slurm, tmp_path: Path) -> AsyncIterator[Batch]:
    yield Batch(slurm, tmp_path)
    await asyncio.to_thread(slurm.clear)


def ranks(relay: StandInRelay, line: str) -> set[int]:
    return {record["rankId"] for record in relay.records if record["log"] == line}


def task(relay: StandInRelay, path: Path, script: str, **changes: object) -> Path:
    return write_task(
        path / "task.json", make_task(relay.url, ["/bin/sh", "-c", script], **changes)
    )


async def test_each_node_runs_one_rank_and_says_so(
    relay: StandInRelay, batch: Batch, tmp_path: Path
) -> None:
    script = "echo $DET_AGENT_ID $DET_SLOT_IDS $SLURM_PROCID/$SLURM_NPROCS"
    job = await batch.submit(task(relay, tmp_path, script))
    assert await batch.end(job) == ("COMPLETED", "0:0"), batch.text("err")
    assert sorted(relay.lines) == ["n1 [0,1] 0/2\n", "n2 [0,1] 1/2\n"]
    assert sorted(batch.text("out").splitlines()) == ["n1 [0,1] 0/2", "n2 [0,1] 1/2"]
    running = relay.bodies("notify_container_running")
    assert {(b["rank"], b["numPeers"], b["nodeName"]) for b in running} == {
        (0, 2, "n1"),
        (1, 2, "n2"),
    }


async def test_a_preemption_reaches_every_rank_and_the_master(
    relay: StandInRelay, batch: Batch, tmp_path: Path
) -> None:
    script = f"trap 'echo leaving; sleep 1; exit 77' TERM; echo ready; {SLEEP}"
    job = await batch.submit(task(relay, tmp_path, script))
    await eventually(lambda: ranks(relay, "ready\n") == {0, 1})
    await batch.preempt()
    await eventually(lambda: ranks(relay, "leaving\n") == {0, 1})
    await eventually(lambda: relay.bodies("pending_preemption"))
    state, code = await batch.end(job)
    assert state in {"FAILED", "PREEMPTED"}
    assert "Slurm preempts the job" in batch.text("err")
    assert code == "77:0"


async def test_work_that_only_the_master_may_end_goes_on_to_its_checkpoint(
    relay: StandInRelay, batch: Batch, tmp_path: Path
) -> None:
    """Nothing of the work traps TERM: had it come to any of its processes, they would have died."""
    asked = tmp_path / "asked to leave"
    script = (
        f"echo ready; until [ -e {shlex.quote(str(asked))} ]; do sleep 0.05; done;"
        " echo checkpoint; exit 0"
    )
    mounts = [{"source": str(tmp_path), "target": str(tmp_path), "read_only": False}]
    file = task(relay, tmp_path, script, mounts=mounts, environment={"SHIPWAY_ON_TERM": "report"})
    job = await batch.submit(file)
    await eventually(lambda: ranks(relay, "ready\n") == {0, 1})
    await batch.preempt()
    await eventually(lambda: relay.bodies("pending_preemption"))
    await asyncio.sleep(1)  # whatever the signals do to the work, they have done it by now
    asked.touch()
    state, code = await batch.end(job)
    assert ranks(relay, "checkpoint\n") == {0, 1}
    assert code == "0:0"
    assert state in {"COMPLETED", "PREEMPTED"}


async def test_a_rank_that_fails_ends_the_others_which_is_no_preemption(
    relay: StandInRelay, batch: Batch, tmp_path: Path
) -> None:
    fails = tmp_path / "fails"
    script = (
        f"[ $SLURM_PROCID = 1 ] || {{ until [ -e {shlex.quote(str(fails))} ]; do sleep 0.05; done;"
        f" exit 3; }}; echo ready; {SLEEP}"
    )
    mounts = [{"source": str(tmp_path), "target": str(tmp_path), "read_only": False}]
    file = task(relay, tmp_path, script, mounts=mounts, environment={"SHIPWAY_ON_TERM": "report"})
    job = await batch.submit(file)
    await eventually(lambda: ranks(relay, "ready\n") == {1})
    fails.touch()
    assert (await batch.end(job))[0] == "FAILED"
    assert relay.bodies("pending_preemption") == []


@pytest.mark.parametrize(
    "signal_words",
    [["--signal=TERM"], ["--batch", "--signal=TERM"], ["--batch", "--signal=USR1"]],
    ids=["to the steps", "to the batch shell", "as USR1 to the batch shell"],
)
async def test_the_notice_is_heard_in_whatever_form_it_comes(
    slurm: Slurm, relay: StandInRelay, batch: Batch, tmp_path: Path, signal_words: list[str]
) -> None:
    script = f"trap 'echo leaving; sleep 1; exit 77' TERM; echo ready; {SLEEP}"
    job = await batch.submit(task(relay, tmp_path, script))
    await eventually(lambda: ranks(relay, "ready\n") == {0, 1})
    await asyncio.to_thread(slurm.run, ["scancel", *signal_words, job])
    await eventually(lambda: ranks(relay, "leaving\n") == {0, 1})
    await eventually(lambda: relay.bodies("pending_preemption"))
    assert await batch.end(job) == ("FAILED", "77:0")


async def test_a_warning_of_the_time_limit_is_no_preemption(
    slurm: Slurm, relay: StandInRelay, tmp_path: Path
) -> None:
    """Slurm looks at time limits twice a minute; so all kinds of tasks are tried at once."""
    kinds: list[tuple[str, str, dict[str, object]]] = [
        ("command", "TERM@50", {}),
        ("by_shell", "B:USR1@50", {}),
        ("users", "USR1@50", {"keeps_usr1": True}),
        ("trial", "B:USR1@50", {"environment": {"DET_TASK_TYPE": "TRIAL"}}),
    ]
    script = f"trap 'echo TERM; exit 77' TERM; trap 'echo USR1; exit 78' USR1; echo ready; {SLEEP}"
    jobs: dict[str, tuple[Batch, str]] = {}
    try:
        for name, signal, changes in kinds:
            folder = tmp_path / name
            folder.mkdir()
            file = task(relay, folder, script, allocation_id=name, warning_s=50, **changes)
            batch = Batch(slurm, folder)
            options = ["--time=1", f"--signal={signal}", "--nodes=1", "--gres=gpu:1"]
            jobs[name] = (batch, await batch.submit(file, *options))
        ends = {name: await batch.end(job) for name, (batch, job) in jobs.items()}
        said = {name: batch.text("out") for name, (batch, _) in jobs.items()}
    finally:
        await asyncio.to_thread(slurm.clear)
    assert ends == {
        name: ("FAILED", "78:0" if name == "users" else "77:0") for name, _, _ in kinds
    }, [batch.text("err") for batch, _ in jobs.values()]
    assert said == {
        name: "ready\nUSR1\n" if name == "users" else "ready\nTERM\n" for name, _, _ in kinds
    }
    told = [path for path, _ in relay.posts if path.endswith("pending_preemption")]
    assert told == ["/api/v1/allocations/trial/signals/pending_preemption"], (
        "a trial saves its work when the master asks; others would be killed at once"
    )
    words = "Slurm warns the job of its time limit"
    assert all(words in batch.text("err") for batch, _ in jobs.values())


async def test_a_cancelled_job_leaves_no_process(
    slurm: Slurm, relay: StandInRelay, batch: Batch, tmp_path: Path
) -> None:
    """The work ignores TERM, so Slurm kills the agents, and with them all that they started."""
    marker = f"shipway-test-{tmp_path.name}"
    script = f"trap '' TERM; echo ready; while :; do sleep 0.05; done # {marker}"
    job = await batch.submit(task(relay, tmp_path, script))
    await eventually(lambda: ranks(relay, "ready\n") == {0, 1})
    await asyncio.to_thread(slurm.run, ["scancel", job])
    await batch.end(job)
    await _gone(lambda: _processes(marker))


async def _gone(find: Callable[[], list[int]]) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(find):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def _processes(marker: str) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in words:
            found.append(int(folder.name))
    return found
