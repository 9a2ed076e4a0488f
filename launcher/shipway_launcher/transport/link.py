"""One link to another machine, kept: a dead one is found, left and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self

from shipway_common.backoff import backoff_delays_s
from shipway_launcher.errors import LinkLost, TransportError
from shipway_launcher.transport.frames import Message
from shipway_launcher.transport.session import (
    FarFacts,
    NotSent,
    Session,
    Stream,
    new_start,
    start_session,
)

log = logging.getLogger(__name__)

Dial = Callable[[str], AbstractAsyncContextManager[Stream]]
"""Run a command on the other machine, with a stream to it."""

_CALLS_AT_ONCE = 32
_SOONEST_S = 1.0
_REFUSED_AGAIN_S = 30.0
_FAR_END_S = 8.0
_STABLE_S = 5.0
_PATIENCE_S = 5.0
_WAIT_S = 15.0


class LinkRefused(TransportError):
    """The other machine does not want us, or we do not trust it: no use to try at once again."""


class Link:
    """Keeps a session with the other machine between `__aenter__` and `__aexit__`.

    Before a session that replaces another one is used, the far end of the earlier one is gone with
    all that it ran, so that nothing which was given up is done later.
    """

    def __init__(
        self,
        name: str,
        dial: Dial,
        *,
        pythons: Sequence[str],
        connect_timeout_s: float,
        silence_s: float,
    ) -> None:
        """Prepare; nothing is connected yet.

        Args:
            name: How to call the other machine in errors.
            dial: Connects.
            pythons: Where a Python may be there.
            connect_timeout_s: How long connecting may take, in seconds.
            silence_s: After so long without a byte the link is dead, in seconds.
        """
        self.name = name
        self._dial, self._pythons = dial, tuple(pythons)
        self._connect_timeout_s, self._silence_s = connect_timeout_s, silence_s
        self._on_open: list[Callable[[Session, FarFacts], Awaitable[None]]] = []
        self._beside: list[Callable[[Session], Awaitable[None]]] = []
        # Apart, so that a file system that does not answer holds up no command.
        self._programs, self._files = (asyncio.Semaphore(_CALLS_AT_ONCE) for _ in range(2))
        self._open: tuple[Session, FarFacts] | None = None
        self._attempt: asyncio.Future[None] | None = None
        self._refusal: TransportError | None = None
        self._wanted = asyncio.Event()
        self._predecessor: dict[str, Any] | None = None
        self._opened_at, self._lost_at = 0.0, -math.inf
        self._last_failure: str | None = None
        self._keeper: asyncio.Task[None] | None = None

    def on_open(self, prepare: Callable[[Session, FarFacts], Awaitable[None]]) -> None:
        """Have each new session prepared before it is used; what fails ends it."""
        self._on_open.append(prepare)

    def beside(self, work: Callable[[Session], Awaitable[None]]) -> None:
        """Have something done beside each session, as long as it lasts."""
        self._beside.append(work)

    async def __aenter__(self) -> Self:
        self._attempt = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep(), name=f"link to {self.name}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._keeper is not None, "was entered"
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        for _ in range(2):  # the session there is, and the next one that somebody waits for
            self._close(TransportError("the launcher is stopping"))

    async def facts(self) -> FarFacts:
        """Return what the other machine says of itself, connecting if need be.

        Raises:
            TransportError: It is not reached; says why.
        """
        return (await self._usable())[1]

    async def call(self, head: dict[str, Any], body: bytes = b"", *, limit_s: float) -> Message:
        """Have something done there; see `Session.call`."""
        async with self._programs if head["do"] == "run" else self._files:
            while True:
                session, _ = await self._usable()
                try:
                    return await session.call(head, body, limit_s=limit_s)
                except NotSent:  # so there is no harm in doing it by the next session
                    continue
                except LinkLost as error:
                    raise LinkLost(f"the link to {self.name} was lost: {error}") from error

    async def forward(self, host: str, port: int) -> int:
        """Make a port of the other machine lead here; see `Stream.forward`."""
        session, _ = await self._usable()
        return await session.stream.forward(host, port)

    async def _usable(self) -> tuple[Session, FarFacts]:
        """Return the session there is, or wait for one: a little, and only as long as it may come.

        Right after a loss some tries may fail; later who waits is told how the next one ended.
        """
        deadline = time.monotonic() + _WAIT_S
        while self._open is None or self._open[0].is_over:
            if self._refusal is not None:
                raise TransportError(str(self._refusal))
            assert self._attempt is not None, "was entered"
            self._wanted.set()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await asyncio.shield(self._attempt)
            except TimeoutError:
                last = f": {self._last_failure}" if self._last_failure else ""
                raise TransportError(f"{self.name} is not reached yet{last}") from None
            except TransportError:
                if time.monotonic() > self._lost_at + _PATIENCE_S:
                    raise
        return self._open

    async def _keep(self) -> None:
        delays = backoff_delays_s(first_s=_SOONEST_S)
        while True:
            try:
                error = await self._hold()
            except Exception:  # a mistake of ours must not end the link for good
                log.exception("the link failed", extra={"host": self.name})
                error = TransportError(f"the link to {self.name} failed, see the launcher's log")
            was_open = self._open is not None
            has_lasted = was_open and time.monotonic() - self._opened_at > _STABLE_S
            self._log_end(error, was_open=was_open)
            self._close(error)
            if was_open:
                delays = backoff_delays_s(first_s=_SOONEST_S)
            if not has_lasted:
                is_refused = isinstance(error, LinkRefused)
                delay_s = _REFUSED_AGAIN_S if is_refused else next(delays)
                await self._pause(delay_s, is_refused=is_refused)

    async def _pause(self, delay_s: float, *, is_refused: bool) -> None:
        """Wait before the next try; less long if somebody asks, but not if we were refused."""
        self._wanted.clear()
        await asyncio.sleep(min(delay_s, _SOONEST_S))
        rest_s = delay_s - _SOONEST_S
        if is_refused:
            await asyncio.sleep(rest_s)
            self._refusal = None
        elif rest_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._wanted.wait()

    def _log_end(self, error: TransportError, *, was_open: bool) -> None:
        if was_open:
            log.warning("the link was lost: %s", error, extra={"host": self.name})
        elif str(error) != self._last_failure:
            log.warning("no link: %s", error, extra={"host": self.name})
        self._last_failure = None if was_open else str(error)

    def _close(self, error: TransportError) -> None:
        if self._open is not None:
            self._lost_at = time.monotonic()
            self._open = None
        elif self._attempt is not None:  # who waited for this try is told how it ended
            if isinstance(error, LinkRefused):
                self._refusal = error
            self._attempt.set_exception(TransportError(str(error)))
            self._attempt.exception()
            self._attempt = asyncio.get_running_loop().create_future()

    async def _hold(self) -> TransportError:
        """Connect and stay so until the session ends; return how it ended."""
        ending = TransportError("the session ended by itself")
        try:
            async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
                try:
                    async with asyncio.timeout(self._connect_timeout_s):
                        session = await self._connect(stack)
                        group.create_task(session.run())
                        facts = await session.hello()
                except TimeoutError:
                    raise TransportError(
                        f"{self.name} gave no answer within {self._connect_timeout_s:g} s"
                    ) from None
                await self._replace(session, facts)
                for prepare in self._on_open:
                    await prepare(session, facts)
                self._publish(session, facts)
                for work in self._beside:
                    group.create_task(_run(work, session))
        except* TransportError as errors:
            ending = _first_of(errors)
        return ending

    async def _connect(self, stack: AsyncExitStack) -> Session:
        command, marker = new_start(self._pythons)
        stream = await stack.enter_async_context(self._dial(command))
        return await start_session(stream, marker, silence_s=self._silence_s)

    async def _replace(self, session: Session, facts: FarFacts) -> None:
        """See to it that the far end of the session before is gone."""
        if self._predecessor is not None:
            head = {"do": "replace", **self._predecessor}
            answer = await session.call(head, limit_s=2 * _FAR_END_S + 5)
            if not answer.head["ended"]:
                # It ran on another machine behind the same name, and ends there by itself.
                ends_at = self._lost_at + self._silence_s + _FAR_END_S
                await asyncio.sleep(max(0.0, ends_at - time.monotonic()))
        self._predecessor = facts.process

    def _publish(self, session: Session, facts: FarFacts) -> None:
        self._open, self._opened_at = (session, facts), time.monotonic()
        assert self._attempt is not None, "was entered"
        self._attempt.set_result(None)
        self._attempt = asyncio.get_running_loop().create_future()
        log.info("link is up", extra={"host": self.name, "machine": facts.host})


async def _run(work: Callable[[Session], Awaitable[None]], session: Session) -> None:
    await work(session)


def _first_of(errors: ExceptionGroup[TransportError]) -> TransportError:
    first = errors.exceptions[0]
    return _first_of(first) if isinstance(first, ExceptionGroup) else first
