"""The jobs that the launcher started: which token speaks for which allocation."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from shipway_common.files import remove_leftovers, write_atomic
from shipway_launcher.relay.errors import NotYours
from shipway_launcher.relay.master import Metadata

log = logging.getLogger(__name__)

_VERSION = 1
_TOUCH_EVERY_S = 3600.0
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One allocation, and what its token may speak for."""

    allocation_id: str
    task_id: str
    trial_id: str
    """Empty for a task that is no trial."""
    token_digest: str

    def check_allocation(self, allocation_id: str) -> None:
        """Refuse to speak for another allocation.

        Raises:
            NotYours: The token is not that allocation's.
        """
        if allocation_id != self.allocation_id:
            raise NotYours(f"the token is not of allocation {allocation_id[:200]!r}")

    def check_line(self, task_id: str, allocation_id: str) -> None:
        """Refuse a log line of another task or allocation.

        Raises:
            NotYours: It is of another one.
        """
        if allocation_id:
            self.check_allocation(allocation_id)
        if task_id != self.task_id:
            raise NotYours(f"the token is not of task {task_id[:200]!r}")

    def check_trial(self, trial_id: int) -> None:
        """Refuse metrics of another trial.

        Raises:
            NotYours: They are of another one.
        """
        if str(trial_id) != self.trial_id:
            raise NotYours(f"the token is not of trial {trial_id}")


class Jobs:
    """All jobs whose tokens the relay knows; told of each before it is submitted.

    Only a digest of a token is kept, for all that is ever done with it is to compare.
    """

    def __init__(self, folder: Path, *, keep_h: float) -> None:
        """Prepare.

        Args:
            folder: Of its own, for one small file per job; made if it is not there.
            keep_h: Hours after its last call for which a job is remembered.
        """
        self._folder, self._keep_s = folder, keep_h * 3600
        self._jobs: dict[str, Job] = {}
        self._used_s: dict[str, float] = {}

    def load(self) -> None:
        """Take up the jobs of earlier runs; blocking.

        Raises:
            OSError: The folder cannot be made or read.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        remove_leftovers(self._folder)
        for path in self._folder.glob("*.json"):
            try:
                job = _read(path)
                self._used_s[job.token_digest] = path.stat().st_mtime
                self._jobs[job.token_digest] = job
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error(
                    "a job's record is unreadable; its calls go to the master unseen",
                    extra={"file": str(path), "reason": str(error)},
                )

    async def learn(self, environment: Mapping[str, str]) -> None:
        """Remember a job by its task's variables; one without an allocation is not remembered.

        Raises:
            OSError: It cannot be written down.
        """
        allocation_id = environment.get("DET_ALLOCATION_ID", "")
        token = environment.get("DET_SESSION_TOKEN", "")
        if not _name.fullmatch(allocation_id) or "." not in allocation_id or not token:
            log.warning(
                "a manifest names no allocation; its calls go to the master unseen",
                extra={"allocation_id": allocation_id},
            )
            return
        job = Job(
            allocation_id=allocation_id,
            task_id=environment.get("DET_TASK_ID") or allocation_id.rpartition(".")[0],
            trial_id=environment.get("DET_TRIAL_ID", ""),
            token_digest=_digest(token),
        )
        record = json.dumps({"version": _VERSION, **asdict(job)}).encode()
        await asyncio.to_thread(write_atomic, self._path(job), record)
        self._jobs[job.token_digest] = job
        self._used_s[job.token_digest] = time.time()

    def find(self, metadata: Metadata) -> Job | None:
        """Return the job whose token a call carries, under whatever name; None: not one of ours."""
        for _, value in metadata:
            if value.startswith("Bearer "):
                job = self._jobs.get(_digest(value.removeprefix("Bearer ")))
                if job is not None:
                    return job
        return None

    async def note_use(self, job: Job) -> None:
        """Remember that *job* still calls."""
        now_s = time.time()
        if now_s - self._used_s.get(job.token_digest, now_s) > _TOUCH_EVERY_S:
            self._used_s[job.token_digest] = now_s
            await asyncio.to_thread(_touch, self._path(job))

    async def forget_old(self) -> None:
        """Forget the jobs that have not called for long."""
        limit_s = time.time() - self._keep_s
        for digest in [digest for digest, used_s in self._used_s.items() if used_s < limit_s]:
            del self._used_s[digest]
            job = self._jobs.pop(digest)
            await asyncio.to_thread(self._path(job).unlink, missing_ok=True)

    def _path(self, job: Job) -> Path:
        return self._folder / f"{job.allocation_id}.{job.token_digest[:16]}.json"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> Job:
    record = json.loads(path.read_bytes())
    if record.pop("version") != _VERSION:
        raise ValueError(f"{path} is of another version")
    return Job(**record)


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError as error:
        log.warning("cannot note that a job is in use", extra={"reason": str(error)})
