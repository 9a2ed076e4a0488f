"""By which way batches go to the master: gRPC, or REST where gRPC is not to be had."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Self

from shipway_agent.errors import MasterUnreachable
from shipway_agent.logs.batch import Batch
from shipway_agent.logs.encode import BatchEncoder
from shipway_agent.logs.place import LogPlace
from shipway_agent.taskapi import CallFailed, CallRefused, TaskApi

if TYPE_CHECKING:
    from shipway_agent.logs.grpcpost import GrpcPoster

log = logging.getLogger(__name__)

_PATH = "/api/v1/task/logs"
_TRY_GRPC_AGAIN_S = 300.0


class LogRoutes:
    """The ways to one master, shared by all tasks; to be entered. Nothing is opened before use."""

    def __init__(
        self,
        find_place: Callable[[], LogPlace],
        *,
        grpc_after_batches: int = 0,
        read_again_s: float = 30.0,
        longest_retry_s: float = 10.0,
    ) -> None:
        """Prepare.

        Args:
            find_place: Says where the master is; blocking, and called in a thread.
            grpc_after_batches: So many go by REST first.
            read_again_s: While calls fail, *find_place* is called again after so long.
            longest_retry_s: Longest wait between two tries of the same batch.
        """
        self.longest_retry_s = longest_retry_s
        self._find_place, self._read_again_s = find_place, read_again_s
        self._batches_before_grpc = grpc_after_batches
        self._place: LogPlace | None = None
        self._place_read_at_s = 0.0
        self._is_failing = False
        self._retired: list[GrpcPoster] = []
        self._lock = asyncio.Lock()
        self._grpc: GrpcPoster | None = None
        self._grpc_has_worked = False
        self._rest_until_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for poster in [*self._retired, *([self._grpc] if self._grpc is not None else [])]:
            await poster.aclose()

    async def place(self) -> LogPlace:
        """Return where the master is.

        Raises:
            CallFailed: That cannot be told now.
        """
        async with self._lock:
            age_s = time.monotonic() - self._place_read_at_s
            if self._place is None or (self._is_failing and age_s > self._read_again_s):
                await self._read_place()
            assert self._place is not None
            return self._place

    async def _read_place(self) -> None:
        """Read where the master is, and the certificates for it, which may be renewed at any time."""
        try:
            place = await asyncio.to_thread(self._find_place)
        except (MasterUnreachable, OSError) as error:
            raise CallFailed(str(error), may_have_worked=False) from error
        if self._place is None and place.no_grpc_because:
            log.info("task logs go by REST: %s", place.no_grpc_because)
        if self._grpc is not None and self._place is not None and place.grpc != self._place.grpc:
            self._retired.append(self._grpc)  # other tasks may be in the middle of a call
            self._grpc = None
        self._place, self._place_read_at_s = place, time.monotonic()

    async def grpc(self) -> GrpcPoster | None:
        """Return the gRPC client; None if that is no way to go now."""
        place = await self.place()
        if self._batches_before_grpc > 0:
            self._batches_before_grpc -= 1
            return None
        if place.grpc is None or time.monotonic() < self._rest_until_s:
            return None
        async with self._lock:
            if self._grpc is None:
                module = await asyncio.to_thread(import_module, "shipway_agent.logs.grpcpost")
                self._grpc = module.GrpcPoster(place.grpc)
        return self._grpc

    @property
    def grpc_has_worked(self) -> bool:
        """Whether a call by gRPC was ever answered."""
        return self._grpc_has_worked

    def note_failing(self) -> None:
        """Remember that a call failed."""
        self._is_failing = True

    def note_working(self) -> None:
        """Remember that a call was answered."""
        self._is_failing = False

    def note_grpc_works(self) -> None:
        """Remember that gRPC is to be had."""
        self._grpc_has_worked = True

    def note_no_grpc(self, reason: Exception) -> None:
        """Go by REST for a while."""
        if not self._rest_until_s:
            log.warning("task logs go by REST, because gRPC does not work: %s", reason)
        self._rest_until_s = time.monotonic() + _TRY_GRPC_AGAIN_S


class TaskRoute:
    """The ways for one task, with its token; to be entered."""

    def __init__(self, routes: LogRoutes, encoder: BatchEncoder, token: str) -> None:
        self._routes, self._encoder, self._token = routes, encoder, token
        self._stack = AsyncExitStack()
        self._rest: TaskApi | None = None
        self._rest_place: LogPlace | None = None
        self._doubted: CallFailed | None = None
        """What became of a call by gRPC, which never worked yet, if it may have arrived."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rest = None
        await self._stack.aclose()

    async def rest(self) -> TaskApi:
        """Return the REST client."""
        place = await self._routes.place()
        if self._rest is None or place is not self._rest_place:
            await self._stack.aclose()
            self._rest = await self._stack.enter_async_context(place.open_rest(self._token))
            self._rest_place = place
        return self._rest

    async def post(self, batch: Batch) -> None:
        """Post a batch once.

        Raises:
            CallFailed: It may work later.
            CallRefused: It will not.
        """
        try:
            await self._post(batch)
        except CallFailed:
            self._routes.note_failing()
            raise
        self._routes.note_working()

    def note_arrived(self) -> None:
        """Remember that the last batch is there, whatever became of the call."""
        if self._doubted is not None:
            self._doubted = None
            self._routes.note_grpc_works()

    async def _post(self, batch: Batch) -> None:
        reason, self._doubted = self._doubted, None
        if reason is not None and not self._routes.grpc_has_worked:
            await self._post_instead(batch, reason)
            return
        grpc = await self._routes.grpc()
        if grpc is None:
            await (await self.rest()).post_json(_PATH, self._encoder.json(batch))
            return
        try:
            await grpc.post(self._encoder.protobuf(batch), self._token)
        except CallRefused as error:
            if error.status != 501:
                self._routes.note_grpc_works()
                raise
            await self._post_instead(batch, error)
        except CallFailed as error:
            if self._routes.grpc_has_worked:
                raise
            if error.may_have_worked:  # something on the way may be no friend of gRPC
                self._doubted = error  # the next try is by REST, after a look for this one
                raise
            await self._post_instead(batch, error)
        else:
            self._routes.note_grpc_works()

    async def _post_instead(self, batch: Batch, reason: CallFailed | CallRefused) -> None:
        """Try REST where gRPC never worked; only its success shows that gRPC is the trouble."""
        await (await self.rest()).post_json(_PATH, self._encoder.json(batch))
        self._routes.note_no_grpc(reason)
