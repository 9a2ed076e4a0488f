"""pyslurm in front of a real Slurm: the same jobs as by sbatch, and each of them once."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path

import pytest

from shipway_launcher.batch.script import render_directive
from shipway_launcher.batch.useroptions import Option
from shipway_launcher.errors import BackendRefused
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.slurm.rows import SlurmJobId
from shipway_launcher.transport.local import LocalTransport
from tests.lab import pyslurm as pyslurm_lab
from tests.lab.folders import new_folder
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster
from tests.launcher.manifests import make_manifest
from tests.launcher.slurm.test_pyslurm import DOUBLES, make, write_python

# What differs between two jobs that were submitted in the same way, one after the other.
OWN = {
    *("JobId", "SLUID", "Priority", "AllocNode:Sid", "Reason", "JobState", "NumNodes", "NumCPUs"),
    *("SubmitTime", "EligibleTime", "AccrueTime", "StartTime", "EndTime", "LastSchedEval"),
    *("PreemptEligibleTime", "PreemptTime", "RunTime", "NodeList", "Nodes", "BatchHost"),
    *("SubmitLine", "Scheduler"),
    *("TRES", "AllocTRES", "JOB_GRES", "CPU_IDs", "Mem", "GRES"),
}
OWN_VARIABLES = {
    *("SLURM_JOBID", "SLURM_JOB_ID", "SLURM_TASK_PID", "SLURM_NODELIST", "SLURM_JOB_NODELIST"),
    *("SLURMD_NODENAME", "SLURM_TOPOLOGY_ADDR", "HOSTNAME", "SLURM_JOB_START_TIME"),
    *("SLURM_JOB_END_TIME", "SHLVL", "_"),
}
# What pyslurm has no way of saying; sites that set it are not given pyslurm.
UNSAID = {"OOMKillStep"}


@pytest.fixture(params=["new", "old"])
async def backend(
    request: pytest.FixtureRequest, slurm: Slurm, tmp_path: Path
) -> AsyncGenerator[PyslurmSlurm]:
    pyslurm_lab.skip_without(slurm, is_old=request.param == "old")
    before = (
        "pass" if request.param == "new" else "import pyslurm; del pyslurm.JobSubmitDescription"
    )
    path = os.environ["PATH"]
    own = LocalTransport(getpass.getuser(), {"PATH": path, "HOME": "/", **slurm.environment})
    python = write_python(tmp_path / "python", before, pyslurm_lab.python())
    made = make(own, None, python, path=path)
    yield made
    await made.aclose()


def write(slurm: Slurm, name: str, options: dict[str, str | None]) -> Path:
    """Write a script that prints its environment and limits."""
    folder = slurm.folder
    given: dict[str, str | None] = {
        "job-name": f"det-ä {name}",
        "comment": f'a "b" \\ #c shipway:{name}',
        "chdir": str(folder),
        "output": f"{folder}/{name}.%j.out",
        "error": f"{folder}/{name}.%j.err",
        "propagate": "NONE",
        "no-requeue": None,
        "open-mode": "append",
        "partition": "gpu",
        **options,
    }
    lines = [f"#SBATCH {render_directive(Option(name=n, value=v))}" for n, v in given.items()]
    path = folder / f"{name}.sh"
    path.write_text("\n".join(["#!/bin/bash", *lines, "env -0", "umask", "ulimit -a", ""]))
    return path


def described(slurm: Slurm, job_id: str) -> dict[str, str]:
    """Return what Slurm knows of a job."""
    words = slurm.run(["scontrol", "show", "job", "-d", job_id]).stdout.split()
    pairs = (word.partition("=")[::2] for word in words if "=" in word)
    ignored = OWN | UNSAID
    # Without a limit of its own a job shows the partition's, and that only once it runs.
    if "TimeLimit=01:30:00" not in words:
        ignored = ignored | {"TimeLimit"}
    return {
        name: text.replace(f".{job_id}.", ".ID.") for name, text in pairs if name not in ignored
    }


def printed(slurm: Slurm, name: str, job_id: str) -> list[str]:
    """Return what the job found in its environment, and its limits."""
    text = (slurm.folder / f"{name}.{job_id}.out").read_text()
    return sorted(line for line in text.split("\0") if line.partition("=")[0] not in OWN_VARIABLES)


@pytest.mark.parametrize(
    "options",
    [
        {"nodes": "2", "ntasks": "2", "gpus": "4"},
        {"nodes": "1-4", "gpus": "8"},
        {"nodes": "1-4", "gpus": "2", "ntasks-per-node": "1"},
        {"nodes": "2", "ntasks": "2", "gres": "gpu:2"},
        {"nodes": "1", "ntasks": "1", "cpus-per-task": "3"},
        {"nodes": "2", "ntasks": "2", "mem": "2G", "time": "1:30:00", "exclude": "n1"},
        {"nodes": "1", "ntasks-per-node": "2"},
        {"nodes": "1", "ntasks": "1", "account": "physics", "wckey": "k 1", "partition": "cancel"},
    ],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
async def test_a_job_is_the_same_as_by_sbatch(
    backend: PyslurmSlurm, slurm: Slurm, options: dict[str, str | None]
) -> None:
    script = await asyncio.to_thread(write, slurm, "same", options)
    user = backend._own
    ids = [
        await backend.submit(script, user=user),
        await backend._commands.submit(script, user=user),
    ]
    found = [await asyncio.to_thread(described, slurm, job_id) for job_id in ids]
    if backend.is_used and found[0]["Command"] == "(null)":
        found[0]["Command"] = found[1]["Command"]  # the old interface has no word for it
    assert found[0] == found[1]
    for job_id in ids:
        await asyncio.to_thread(slurm.wait_for_job, job_id, "COMPLETED")
    texts = [await asyncio.to_thread(printed, slurm, "same", job_id) for job_id in ids]
    assert texts[0] == texts[1]


async def test_a_refusal_is_the_same_as_by_sbatch(backend: PyslurmSlurm, slurm: Slurm) -> None:
    options: dict[str, str | None] = {"nodes": "1", "ntasks": "1", "partition": "nosuch"}
    script = await asyncio.to_thread(write, slurm, "refused", options)
    said: list[str] = []
    for way in (backend, backend._commands):
        with pytest.raises(BackendRefused) as refused:
            await way.submit(script, user=backend._own)
        said.append(refused.value.stderr)
    assert said[0] == said[1]
    assert backend.is_used


async def test_a_cancel_ends_a_job_and_leaves_others_alone(
    backend: PyslurmSlurm, slurm: Slurm
) -> None:
    options: dict[str, str | None] = {"nodes": "1", "ntasks": "1", "hold": None}
    script = await asyncio.to_thread(write, slurm, "held", options)
    first, second = [await backend.submit(script, user=backend._own) for _ in range(2)]
    await backend.cancel([first, SlurmJobId("99999")], user=backend._own)
    await asyncio.to_thread(slurm.wait_for_job, first, "CANCELLED")
    states = await asyncio.to_thread(slurm.job_states)
    assert states[second] == "PENDING"
    await backend.cancel([second], user=backend._own)
    await asyncio.to_thread(slurm.wait_for_job, second, "CANCELLED")


@pytest.fixture(params=["new", "old"])
def site(request: pytest.FixtureRequest, slurm: Slurm) -> Iterator[tuple[Launcher, Path]]:
    """A launcher on a double whose jobs are real ones."""
    folder = new_folder("launcher")
    double = folder / "double"
    double.mkdir()
    shutil.copy(DOUBLES / "fate.py", double)
    shutil.copy(DOUBLES / request.param / "pyslurm.py", double)
    release = slurm.run(["sbatch", "--version"]).stdout.split()[-1]
    (double / "version").write_text(release)
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "watch": {"interval_s": 0.5},
            "slurm": {
                "backend": "pyslurm",
                "pyslurm_python": write_python(
                    folder / "python", f"sys.path.insert(0, {str(double)!r})"
                ),
            },
        },
    )
    daemon.start()
    try:
        yield daemon, double
    finally:
        daemon.stop()
        slurm.clear()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def test_a_job_whose_answer_died_with_the_helper_is_found_not_made_again(
    site: tuple[Launcher, Path], slurm: Slurm, new_id: Callable[[], str], user: str
) -> None:
    daemon, double = site
    (double / "fate").write_text("job made, then crash")
    dispatch_id = new_id()
    master = GoMaster(daemon.url, daemon.token_file)
    job = master.launch(make_manifest(["/bin/true"]), dispatch_id, user)
    assert master.wait(job) == "COMPLETED"
    listed = slurm.run(["squeue", "-h", "-t", "all", "-o", "%i %j"]).stdout.splitlines()
    assert [line.split()[0] for line in listed if line.endswith(dispatch_id)] == [job.job_id]
    assert len((double / "calls").read_text().splitlines()) == 1
