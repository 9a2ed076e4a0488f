"""Kill what is on a job's way, and find the processes of a job."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.folders import new_folder
from tests.lab.processes import is_alive, wait_until
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import Job


@contextmanager
def running_launcher(slurm: Slurm, **watch: float) -> Iterator[Launcher]:
    """Run a launcher in front of a cluster, for a master that is not there; no call may break it."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={"watch": watch},
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        log = daemon.log.read_text()
        shutil.rmtree(folder)
    assert "Traceback" not in log, log


def kill(pid: int | None) -> None:
    """End a process at once, and wait until it is gone; it may have gone with another before."""
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is gone", limit_s=60)


def wait_until_asked(slurm: Slurm, *names: str) -> None:
    """Wait until programs of Slurm have sent their messages to a controller that is stopped."""
    port = int(re.search(r"^SlurmctldPort=(\d+)$", slurm.config.read_text(), re.MULTILINE)[1])  # type: ignore[index]
    for name in names:
        wait_until(
            lambda name=name: _has_asked(name, port),  # type: ignore[misc]
            f"{name} waits for an answer",
            limit_s=60,
            interval_s=0.01,
        )


def _senders(port: int) -> set[str]:
    """Return the sockets whose messages lie unread at a port of this machine."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    here = f":{port:04X}"
    waiting = {
        (line[2], line[1])
        for line in lines
        if line[1].endswith(here) and int(line[4].partition(":")[2], 16) > 0
    }
    return {line[9] for line in lines if (line[1], line[2]) in waiting}


def _has_asked(name: str, port: int) -> bool:
    """Say whether a message of a program of that name lies unread at a port."""
    sockets = {f"socket:[{inode}]" for inode in _senders(port)}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended or closed meanwhile
            is_named = (folder / "comm").read_text().strip() == name
            if is_named and not sockets.isdisjoint(map(os.readlink, folder.glob("fd/*"))):
                return True
    return False


def processes(job: Job, word: str) -> list[int]:
    """Find the processes of a job with *word* in their arguments."""
    number = f"SLURM_JOB_ID={job.job_id}".encode()
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            arguments = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        # By its name, too: a cluster beside this one may have a job of that number.
        is_named = any(
            one.startswith(b"SLURM_JOB_NAME=") and one.endswith(job.dispatch_id.encode())
            for one in variables
        )
        if number in variables and is_named and word.encode() in arguments:
            found.append(int(folder.name))
    return found
