"""Jobs as Slurm would start them, in front of a stand-in for the relay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.agent.job.stand_in import TOKEN, StandInRelay

ALLOCATION = "3f0c8d52-5d7a-4c1f-9e5b-333333333333.1"
TASK = ALLOCATION.removesuffix(".1")

SLURM = {
    "SLURM_PROCID": "1",
    "SLURM_NPROCS": "2",
    "SLURM_JOB_ID": "4711",
    "SLURMD_NODENAME": "n7",
    "CUDA_VISIBLE_DEVICES": "2,3",
}


def make_task(url: str, words: Sequence[str], **changes: Any) -> dict[str, Any]:
    environment = {
        "DET_SESSION_TOKEN": TOKEN,
        "DET_ALLOCATION_ID": ALLOCATION,
        "DET_TASK_ID": TASK,
        "DET_SLOT_TYPE": "cuda",
        **changes.pop("environment", {}),
    }
    return {
        "version": 1,
        "dispatch_id": "d-1",
        "allocation_id": ALLOCATION,
        "name": "cmd",
        "runtime": "sandbox",
        "image": None,
        "image_root": None,
        "arguments": list(words),
        "environment": environment,
        "working_dir": "/tmp",
        "archives_dir": None,
        "mounts": [],
        "network_mode": "host",
        "ports": [],
        "devices": [],
        "add_capabilities": [],
        "drop_capabilities": [],
        "gpu_vendor": None,
        "disable_image_cache": False,
        "master_url": url,
        "ship_logs": True,
        "private_run_dir": True,
        "warning_s": None,
        "keeps_usr1": False,
        **changes,
    }


def write_task(path: Path, task: Mapping[str, Any], *, mode: int = 0o600) -> Path:
    path.touch(mode=mode)
    path.write_text(json.dumps(task))
    path.chmod(mode)
    return path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a job left."""

    status: int
    stdout: bytes
    stderr: bytes


class Job:
    """A running `shipway-agent job`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    async def end(self, *, limit_s: float = 90) -> Ended:
        async with asyncio.timeout(limit_s):
            stdout, stderr = await self.process.communicate()
        assert self.process.returncode is not None
        return Ended(status=self.process.returncode, stdout=stdout, stderr=stderr)


StartJob = Callable[..., Any]


@pytest.fixture
async def relay() -> AsyncIterator[StandInRelay]:
    async with StandInRelay() as relay:
        yield relay


@pytest.fixture
async def start_job(relay: StandInRelay, tmp_path: Path) -> AsyncIterator[StartJob]:
    """Start a job with these arguments; more keywords change the task file, `slurm` the variables."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*words: str, slurm: Mapping[str, str] | None = None, **changes: Any) -> Job:
            task = make_task(relay.url, words, **changes)
            file = write_task(tmp_path / "task.json", task)
            return await stack.enter_async_context(job_process(file, slurm or {}, tmp_path))

        yield start


@contextlib.asynccontextmanager
async def job_process(file: Path, slurm: Mapping[str, str], folder: Path) -> AsyncIterator[Job]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        **SLURM,
        **slurm,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *["-m", "shipway_agent", "job", str(file)],
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        yield Job(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def eventually(is_true: Callable[[], object], *, limit_s: float = 60) -> None:
    """Poll until *is_true*; the test fails if that takes too long."""
    async with asyncio.timeout(limit_s):
        while not is_true():  # noqa: ASYNC110 (it watches another process)
            await asyncio.sleep(0.01)
