"""One table of what this master can do, used by both faces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from google.protobuf.message import Message

from shipway_common.logsetup import log_context
from shipway_master.auth import LATE_RPCS, OPEN_RPCS, Authenticator, find_token
from shipway_master.errors import (
    Internal,
    MasterError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from shipway_master.rpc.call import Call
from shipway_master.rpc.meter import CallMeter
from shipway_master.rpc.methods import METHODS, Method

log = logging.getLogger(__name__)

_CALLS_END_S = 10

Implementation = Callable[[Any, Call], Awaitable[Any]]


class ServiceMistake(Exception):
    """Two services have the same method, or one has a method that the API does not know."""


@dataclass(frozen=True, slots=True)
class _Entry:
    run: Implementation
    is_long_poll: bool


class Registry:
    """All services as one table from RPC to method; entered, it owns the calls in progress."""

    def __init__(
        self,
        services: Iterable[object],
        authenticator: Authenticator,
        *,
        meter: CallMeter | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._meter = meter or CallMeter()
        self._entries = _collect(services)
        self._calls: set[asyncio.Task[Message]] = set()
        self._waiting: set[asyncio.Task[Any]] = set()
        self._is_stopping = False

    @property
    def implemented(self) -> frozenset[str]:
        """Names of the RPCs that have a method."""
        return frozenset(self._entries)

    async def authorize(
        self, method: Method, *, metadata: Mapping[str, str], cookie: str | None
    ) -> Call:
        """Find out who asks for *method*.

        Raises:
            Unauthenticated: It needs a token, and there is no valid one.
            PermissionDenied: The user has been deactivated.
            Unimplemented: Somebody known asks for what this master cannot do.
            Unavailable: The master is stopping.
        """
        if self._is_stopping:
            raise _stopping()
        principal = None
        if method.name not in OPEN_RPCS:
            token = find_token(metadata, cookie=cookie)
            principal = await self._authenticator.principal(token)
            if principal.has_ended and method.name not in LATE_RPCS:
                raise Unauthenticated("invalid credentials")
        if method.name not in self._entries:
            raise Unimplemented(f"{method.name} is not implemented by this master")
        return Call(rpc=method.name, known_principal=principal)

    async def unary(self, request: Message, call: Call) -> Message:
        """Run a unary method.

        Raises:
            MasterError: Whatever went wrong, in the form that the caller is told.
        """
        entry = self._entries[call.rpc]
        if entry.is_long_poll:
            with self._interruptible():
                answer: Message = await self._guarded(entry.run, request, call)
                return answer
        task: asyncio.Task[Message] = asyncio.create_task(
            self._guarded(entry.run, request, call), name=call.rpc
        )
        self._calls.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    async def stream(self, request: Message, call: Call) -> AsyncGenerator[Message]:
        """Start a stream; its errors come out of this call or of the iterator, as MasterErrors."""
        items = await self._guarded(self._entries[call.rpc].run, request, call)
        return self._guarded_items(items, call)

    def interrupt(self) -> None:
        """Begin to stop: take no more calls and end those that wait for something to happen.

        A stream ends with an error that says so. A long poll is cut off without an answer: that is
        what tasks repeat by themselves, while an error is for good to them.
        """
        self._is_stopping = True
        for task in self._waiting:
            task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let the calls in progress end; cancel those that do not in time."""
        if not self._calls:
            return
        done_and_late = await asyncio.wait(self._calls, timeout=_CALLS_END_S)
        late = done_and_late[1]
        for task in late:
            log.warning("call cancelled at shutdown", extra={"rpc": task.get_name()})
            task.cancel()
        if late:
            await asyncio.wait(late)

    @contextmanager
    def _interruptible(self) -> Generator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    def _finished(self, task: asyncio.Task[Message]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller if he is still there; logged where it arose

    async def _guarded(self, run: Implementation, request: Message, call: Call) -> Any:
        is_timed = not self._entries[call.rpc].is_long_poll
        with log_context(rpc=call.rpc), self._meter.measuring(call.rpc, is_timed=is_timed):
            try:
                return await run(request, call)
            except MasterError:
                raise
            except Exception as error:
                raise _internal(error) from error

    async def _guarded_items(
        self, items: AsyncIterator[Message], call: Call
    ) -> AsyncGenerator[Any]:
        try:
            with self._interruptible():
                async for item in items:
                    yield item
        except MasterError:
            raise
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
            raise _stopping() from None
        except Exception as error:
            with log_context(rpc=call.rpc):
                raise _internal(error) from error
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()


def _stopping() -> Unavailable:
    return Unavailable("the master is stopping")


def _internal(error: Exception) -> Internal:
    log.error("a call failed", exc_info=error)
    return Internal("internal error; the log of the master says more")


def _collect(services: Iterable[object]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for service in services:
        for name in dir(service):
            if not name[0].isupper():
                continue
            if name not in METHODS:
                raise ServiceMistake(f"{type(service).__name__}.{name}: the API has no such RPC")
            if name in entries:
                raise ServiceMistake(f"{type(service).__name__}.{name}: another service has it too")
            run = getattr(service, name)
            entries[name] = _Entry(run, is_long_poll=getattr(run, "is_long_poll", False))
    return entries
