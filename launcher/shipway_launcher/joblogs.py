"""The logs of environments: which there are, what is in them, and emptying them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.files import job_folder, log_file, log_files
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.errors import NotFound, StorageError
from shipway_launcher.logs import FileLog, Log, TextLog
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.tree import FileStatus, erase_file, status_of
from shipway_launcher.users import Users


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """One log that there is."""

    name: str
    kind: str
    status: FileStatus


_KINDS = {"output.log": "stdout", "error.log": "stderr", "job.sh": "script"}


class JobLogs:
    """Finds the logs of dispatches and of answered queries."""

    def __init__(self, store: DispatchStore, users: Users, *, root: Path) -> None:
        """Prepare; *root* is the job_storage_root."""
        self._store, self._users, self._root = store, users, root

    async def open(self, found: Dispatch | Query, name: str) -> Log:
        """Open a log; one that a job has not begun to write is empty.

        Raises:
            NotFound: There is no such log.
        """
        if isinstance(found, Query):
            if name != found.log_name:
                raise NotFound(f"query {found.id} has no log {name[:200]}")
            return TextLog(found.text.encode(), found.at.timestamp())
        if name == _submission_name(found):
            data, status = await asyncio.to_thread(self._read_submission, found)
            return TextLog(data, None if status is None else status.modified_at)
        user, path = await self._place(found, name)
        status = await user.status(path)
        if status is None:
            return FileLog(user, path, 0, None)
        return FileLog(user, path, status.size, status.modified_at)

    async def list(self, found: Dispatch | Query) -> list[LogSource]:
        """Return the logs that have been begun."""
        if isinstance(found, Query):
            size = len(found.text.encode())
            made = FileStatus(size=size, modified_at=found.at.timestamp())
            return [LogSource(name=found.log_name, kind="query", status=made)]
        folder = job_folder(self._root, found.owner, found.id)
        user = await self._users.get(found.owner)
        sources: list[LogSource] = []
        for name, file in log_files(found.payload).items():
            if (status := await user.status(folder / file)) is not None:
                sources.append(LogSource(name=name, kind=_KINDS[file], status=status))
        said = await asyncio.to_thread(status_of, self._store.submission_log(found.id))
        if said is not None:
            name = _submission_name(found)
            sources.append(LogSource(name=name, kind="submission", status=said))
        return sources

    async def erase(self, found: Dispatch | Query, name: str) -> None:
        """Empty a log; a job that still writes goes on with an empty one.

        Raises:
            NotFound: There is no such log, or it is the answer to a query.
        """
        if isinstance(found, Query):
            await self.open(found, name)
            raise NotFound(f"{name} is the answer of query {found.id}; delete the environment")
        if name == _submission_name(found):
            try:
                await asyncio.to_thread(erase_file, self._store.submission_log(found.id))
            except OSError as error:
                raise StorageError(f"{name} cannot be emptied: {error}") from error
            return
        user, path = await self._place(found, name)
        await user.erase(path)

    async def _place(self, found: Dispatch, name: str) -> tuple[Transport, Path]:
        file = log_file(found.payload, name)
        if file is None:
            raise NotFound(f"environment {found.id} has no log {name[:200]}")
        user = await self._users.get(found.owner)
        return user, job_folder(self._root, found.owner, found.id) / file

    def _read_submission(self, found: Dispatch) -> tuple[bytes, FileStatus | None]:
        path = self._store.submission_log(found.id)
        try:
            status = status_of(path)
            return (b"" if status is None else path.read_bytes()), status
        except OSError as error:
            raise StorageError(f"the log of the submission cannot be read: {error}") from error


def _submission_name(found: Dispatch) -> str:
    return f"{found.payload}-submission.log"
