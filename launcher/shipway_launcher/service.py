"""What the launcher can do, whoever asks: the operations behind the REST face."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.files import job_folder, log_file
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.errors import NotFound, StorageError
from shipway_launcher.launches import Launches, Parts
from shipway_launcher.locks import NamedLocks
from shipway_launcher.logs import FileLog, Log, TextLog


class Launcher:
    """All operations on manifests and dispatches."""

    def __init__(
        self,
        parts: Parts,
        *,
        relay_url: str | None,
        learn_master: Callable[[str], Awaitable[None]],
    ) -> None:
        """Put the parts together.

        Args:
            parts: Who does the work.
            relay_url: What jobs are told as the master's address; None leaves them the master's.
            learn_master: Is told the master's URL in each manifest.
        """
        self._parts = parts
        self._locks = NamedLocks()
        self._launches = Launches(
            parts, self._locks, relay_url=relay_url, learn_master=learn_master
        )

    async def launch(self, body: bytes, *, user: str, dispatch_id: str | None) -> Dispatch | Query:
        """Launch a manifest: submit its job, or answer its query; see `Launches.launch`."""
        return await self._launches.launch(body, user=user, dispatch_id=dispatch_id)

    async def status(self, owner: str, dispatch_id: str, *, refresh: bool) -> Dispatch | Query:
        """Return a dispatch; with *refresh* as Slurm sees it after this call.

        When Slurm does not answer, what was known before still stands.

        Raises:
            NotFound: There is none.
        """
        if query := self._parts.shelf.find(owner, dispatch_id):
            return query
        dispatch = self._parts.registry.get(owner, dispatch_id)
        if refresh and not dispatch.state.is_final:
            await self._parts.watch.fresh()
            dispatch = self._parts.registry.get(owner, dispatch_id)
        return dispatch

    async def manifest(self, owner: str, dispatch_id: str) -> bytes:
        """Return what was launched, without its secrets.

        Raises:
            NotFound: There is none.
        """
        dispatch = self._parts.registry.get(owner, dispatch_id)
        try:
            return await asyncio.to_thread(self._parts.store.load_manifest, dispatch.id)
        except OSError as error:
            raise StorageError(f"the manifest of {dispatch.id} cannot be read: {error}") from error

    async def log(self, owner: str, dispatch_id: str, name: str) -> Log:
        """Open a log; one that a job has not begun to write is empty.

        Raises:
            NotFound: There is no such dispatch or no such log.
        """
        if query := self._parts.shelf.find(owner, dispatch_id):
            if name != query.log_name:
                raise NotFound(f"query {dispatch_id} has no log {name[:200]}")
            return TextLog(query.text.encode())
        dispatch = self._parts.registry.get(owner, dispatch_id)
        if name == f"{dispatch.payload}-submission.log":
            store = self._parts.store
            return TextLog(await asyncio.to_thread(store.load_submission_log, dispatch.id))
        file = log_file(dispatch.payload, name)
        if file is None:
            raise NotFound(f"environment {dispatch_id} has no log {name[:200]}")
        path = job_folder(self._parts.settings.job_storage_root, owner, dispatch_id) / file
        user = await self._parts.users.get(owner)
        return FileLog(user, path, await user.size(path) or 0)

    async def terminate(self, owner: str, dispatch_id: str) -> Dispatch | Query:
        """Ask for the end of a dispatch; harmless if it has ended.

        Raises:
            NotFound: There is none.
            LauncherError: Slurm was not reached; the launcher goes on trying.
        """
        if query := self._parts.shelf.find(owner, dispatch_id):
            return query
        return await self._parts.ender.terminate(self._parts.registry.get(owner, dispatch_id).id)

    async def delete(self, owner: str, dispatch_id: str) -> None:
        """Remove a dispatch with its files; a job that lives is ended first.

        Raises:
            NotFound: There is none.
            LauncherError: It is still there.
        """
        if self._parts.shelf.find(owner, dispatch_id):
            self._parts.shelf.remove(owner, dispatch_id)
            return
        dispatch = self._parts.registry.get(owner, dispatch_id)
        async with self._locks.of(dispatch.id):
            await self._parts.ender.delete(dispatch.id)

    def running(self) -> list[Dispatch]:
        """Return the dispatches that have not ended."""
        return [found for found in self._parts.registry.all() if not found.state.is_final]

    def terminated(self) -> list[Dispatch | Query]:
        """Return the dispatches that have ended."""
        ended = [found for found in self._parts.registry.all() if found.state.is_final]
        return [*ended, *self._parts.shelf.all()]

    async def expire(self) -> None:
        """Remove what ended long ago."""
        limits = self._parts.settings.limits
        await self._parts.ender.expire(
            keep_ended=timedelta(hours=limits.keep_ended_h),
            keep_refused=timedelta(minutes=limits.keep_refused_min),
        )
