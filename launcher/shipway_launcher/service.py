"""What the launcher can do, whoever asks: the operations behind the REST face."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from shipway_launcher.background import Background
from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.errors import LauncherError, NotFound, StorageError
from shipway_launcher.interfaces import UserInterface, find_interfaces
from shipway_launcher.joblogs import JobLogs, LogSource
from shipway_launcher.launches import Launches, Parts, Wish
from shipway_launcher.locks import NamedLocks
from shipway_launcher.logs import Log
from shipway_launcher.manifest import parse_json

log = logging.getLogger(__name__)


class Launcher:
    """All operations on manifests and dispatches."""

    def __init__(
        self,
        parts: Parts,
        background: Background,
        *,
        relay_url: str | None,
        learn_job: Callable[[Mapping[str, str]], Awaitable[None]],
        settle_job: Callable[[str], Awaitable[None]],
    ) -> None:
        """Put the parts together.

        Args:
            parts: Who does the work.
            background: For what goes on when its request has been answered.
            relay_url: What jobs are told as the master's address; None leaves them the master's.
            learn_job: Is told the task's variables of each job before it is submitted.
            settle_job: Waits a moment until the master has what the job of an allocation told it
                by way of the launcher.
        """
        self._parts, self._background = parts, background
        self._logs = JobLogs(parts.store, parts.users, root=parts.settings.job_storage_root)
        self._locks, self._settle_job = NamedLocks(), settle_job
        self._launches = Launches(parts, self._locks, relay_url=relay_url, learn_job=learn_job)

    async def launch(self, body: bytes, wish: Wish) -> Dispatch | Query:
        """Launch a manifest: submit its job, or answer its query; see `Launches.launch`."""
        return await self._launches.launch(body, wish)

    async def launch_soon(self, body: bytes, wish: Wish) -> Dispatch | Query:
        """Launch a manifest and return as soon as there is a record of it.

        What becomes of the submission is then in the dispatch's state and events.

        Raises:
            LauncherError: Nothing will be launched.
        """
        known: asyncio.Future[Dispatch | Query] = asyncio.get_running_loop().create_future()

        def tell(found: Dispatch | Query) -> None:
            if not known.done():
                known.set_result(found)

        async def work() -> None:
            try:
                tell(await self._launches.launch(body, wish, on_known=tell))
            except LauncherError as error:
                if known.done():
                    log.warning("a launch failed after it had been answered: %s", error)
                else:
                    known.set_exception(error)
            except Exception as error:
                if known.done():
                    log.exception("a launch failed after it had been answered")
                else:
                    known.set_exception(error)
            finally:
                known.cancel()

        self._background.start(work(), name="launch")
        return await known

    def find(self, owner: str, dispatch_id: str) -> Dispatch | Query | None:
        """Return what is known of a dispatch or an answered query; None if there is none."""
        query = self._parts.shelf.find(owner, dispatch_id)
        if query is not None:
            return query
        dispatch = self._parts.registry.find(dispatch_id)
        return dispatch if dispatch is not None and dispatch.owner == owner else None

    async def status(
        self, found: Dispatch | Query, *, refresh: bool, max_age_s: float | None = None
    ) -> Dispatch | Query:
        """Return a dispatch; with *refresh* as Slurm saw it no longer ago than *max_age_s*.

        When Slurm does not answer, what was known before still stands.

        Raises:
            NotFound: It has been removed meanwhile.
        """
        if isinstance(found, Query):
            return found
        if refresh and not found.state.is_final:
            settings = self._parts.settings.watch
            await self._parts.watch.recent(settings.max_age_s if max_age_s is None else max_age_s)
            found = self._parts.registry.get(found.owner, found.id)
        if found.state.is_final:
            await self._settle(found)
        return found

    async def _settle(self, ended: Dispatch) -> None:
        """Let the master hear a job's last words before it hears of its end."""
        try:
            manifest = parse_json(await self.manifest(ended))
        except LauncherError as error:
            log.warning("what a job said last may come late: %s", error)
            return
        parameters: dict[str, Any] = manifest["payloads"][0]["launchParameters"]
        environment: dict[str, str] = parameters.get("environment") or {}
        await self._settle_job(environment.get("DET_ALLOCATION_ID", ""))

    async def manifest(self, found: Dispatch) -> bytes:
        """Return what was launched, without its secrets."""
        try:
            return await asyncio.to_thread(self._parts.store.load_manifest, found.id)
        except OSError as error:
            raise StorageError(f"the manifest of {found.id} cannot be read: {error}") from error

    async def interfaces(self, found: Dispatch) -> list[UserInterface]:
        """Return where the pages of a running job are."""
        if found.state.is_final or found.job_id is None:
            return []
        seen = await self._parts.watch.recent(self._parts.settings.watch.max_age_s)
        row = next((row for row in seen.rows if row.id == found.job_id), None)
        return find_interfaces(await self.manifest(found), row)

    async def why_not_managed(self, owner: str) -> str:
        """Say why the launcher cannot act for this owner; nothing if it can."""
        try:
            await self._parts.users.get(owner)
        except LauncherError as error:
            return str(error)
        return ""

    async def log(self, found: Dispatch | Query, name: str) -> Log:
        """Open a log; one that a job has not begun to write is empty.

        Raises:
            NotFound: There is no such log.
        """
        return await self._logs.open(found, name)

    async def logs(self, found: Dispatch | Query) -> list[LogSource]:
        """Return the logs that have been begun."""
        return await self._logs.list(found)

    async def erase_logs(self, found: Dispatch | Query, names: Iterable[str]) -> None:
        """Empty logs.

        Raises:
            NotFound: There is no such log.
        """
        for name in names:
            await self._logs.erase(found, name)

    async def terminate(self, found: Dispatch | Query) -> Dispatch | Query:
        """Ask for the end of a dispatch; harmless if it has ended.

        Raises:
            NotFound: It has been removed meanwhile.
            LauncherError: Slurm was not reached; the launcher goes on trying.
        """
        if isinstance(found, Query):
            return found
        return await self._parts.ender.terminate(found.id)

    async def terminate_soon(self, found: Dispatch | Query) -> Dispatch | Query:
        """Note that a dispatch is to end, and do not wait until Slurm knows.

        Raises:
            NotFound: It has been removed meanwhile.
        """
        if isinstance(found, Query):
            return found

        async def work() -> None:
            try:
                await self._parts.ender.terminate(found.id)
            except LauncherError as error:  # the watch repeats it
                log.warning("a job was not cancelled: %s", error, extra={"dispatch_id": found.id})

        after = await self._parts.ender.request_end(found.id)
        self._background.start(work(), name="terminate")
        return after

    async def terminate_all(self, owner: str) -> None:
        """End all dispatches of an owner, and wait until they have ended.

        Raises:
            LauncherError: Not all have ended in time.
        """
        live = [found for found in self.running() if found.owner == owner]
        for found in live:
            await self._parts.ender.request_end(found.id)
        for found in live:
            try:
                await self._parts.ender.terminate(found.id)
                await self._parts.ender.wait_for_end(found.id)
            except NotFound:  # deleted meanwhile
                continue

    async def delete(self, found: Dispatch | Query) -> None:
        """Remove a dispatch with its files; a job that lives is ended first.

        Raises:
            NotFound: It has been removed meanwhile.
            LauncherError: It is still there.
        """
        if isinstance(found, Query):
            self._parts.shelf.remove(found.owner, found.id)
            return
        async with self._locks.of(found.id):
            await self._parts.ender.delete(found.id)

    async def delete_ended(self, owner: str) -> None:
        """Remove all dispatches of an owner that have ended, and all answers to queries.

        Raises:
            LauncherError: Some could not be removed.
        """
        for found in self.terminated():
            if found.owner == owner:
                try:
                    await self.delete(found)
                except NotFound:  # somebody else was quicker
                    continue

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
