"""The set of all dispatches, in memory and on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace

from shipway_launcher.dispatches.record import Dispatch, DispatchId, Event, Submission, now
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.errors import NotFound, StorageError
from shipway_launcher.locks import NamedLocks

log = logging.getLogger(__name__)

REPORTER = "shipway-launcher"

_WRITES_AT_ONCE = 16


class Registry:
    """All dispatches. A change is on disk before anybody sees it."""

    def __init__(self, store: DispatchStore) -> None:
        """Begin with none; `load` reads those of earlier runs."""
        self._store = store
        self._dispatches: dict[DispatchId, Dispatch] = {}
        self._locks = NamedLocks()
        self._writes = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def load(self) -> None:
        """Take up what earlier runs left, also what they left unfinished."""
        for dispatch in await asyncio.to_thread(self._store.load_all):
            self._dispatches[dispatch.id] = dispatch
            await self.update(dispatch.id, _after_restart)
        live = sum(not dispatch.state.is_final for dispatch in self._dispatches.values())
        log.info("dispatches loaded", extra={"all": len(self._dispatches), "live": live})

    def all(self) -> list[Dispatch]:
        """Return all dispatches, oldest first."""
        return sorted(self._dispatches.values(), key=lambda dispatch: dispatch.created_at)

    def find(self, dispatch_id: str) -> Dispatch | None:
        """Return a dispatch, None if there is none of this id."""
        return self._dispatches.get(DispatchId(dispatch_id))

    def get(self, owner: str, dispatch_id: str) -> Dispatch:
        """Return the dispatch of an owner.

        Raises:
            NotFound: There is none.
        """
        dispatch = self.find(dispatch_id)
        if dispatch is None or dispatch.owner != owner:
            raise NotFound(f"{owner} has no environment {dispatch_id[:200]}")
        return dispatch

    async def add(self, dispatch: Dispatch, manifest: bytes) -> None:
        """Take in a new dispatch."""
        with _storage_errors(dispatch.id):
            await asyncio.to_thread(self._store.add, dispatch, manifest)
        self._dispatches[dispatch.id] = dispatch

    async def update(
        self, dispatch_id: DispatchId, change: Callable[[Dispatch], Dispatch]
    ) -> Dispatch:
        """Change a dispatch, one change after another.

        Args:
            dispatch_id: Which one.
            change: Makes the new one of the present one; must not wait for anything.

        Raises:
            NotFound: It has been removed.
        """
        async with self._locks.of(dispatch_id):
            before = self._dispatches.get(dispatch_id)
            if before is None:
                raise NotFound(f"there is no environment {dispatch_id}")
            after = change(before)
            if after != before:
                async with self._writes:
                    with _storage_errors(dispatch_id):
                        await asyncio.to_thread(self._store.save, after)
                self._dispatches[dispatch_id] = after
                if after.state is not before.state:
                    log.info(
                        "dispatch changed",
                        extra={
                            "dispatch_id": dispatch_id,
                            "state": after.state.value,
                            "job_id": after.job_id,
                        },
                    )
            return after

    async def remove(self, dispatch_id: DispatchId) -> None:
        """Forget a dispatch; its job's own files are not touched."""
        async with self._locks.of(dispatch_id):
            with _storage_errors(dispatch_id):
                await asyncio.to_thread(self._store.remove, dispatch_id)
            self._dispatches.pop(dispatch_id, None)


@contextmanager
def _storage_errors(dispatch_id: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"the record of {dispatch_id} cannot be written: {error}") from error


def _after_restart(dispatch: Dispatch) -> Dispatch:
    """Say what an unfinished submission means now that nobody works on it any more."""
    match dispatch.submission:
        case Submission.PREPARING if not dispatch.state.is_final:
            event = Event(
                level="ERROR",
                at=now(),
                reporter=REPORTER,
                message="The launcher was restarted before it had submitted the job.",
            )
            failed = dispatch.moved(DispatchState.FAILED, at=now(), event=event)
            return replace(failed, submission=Submission.REFUSED)
        case Submission.SUBMITTING:
            return replace(dispatch, submission=Submission.DOUBTFUL)
        case _:
            return dispatch
