"""One conversation with a far end: calls and their answers over one stream."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shipway_launcher.errors import CommandTimedOut, LinkLost, TransportError
from shipway_launcher.transport.bundle import render_source, render_start_command
from shipway_launcher.transport.frames import (
    BEAT,
    CANCEL,
    MARK_BYTES,
    Assembly,
    FrameReader,
    Message,
    StreamBroken,
    encode_frame,
    encode_message,
)
from shipway_launcher.transport.machine import Account

log = logging.getLogger(__name__)

_CANCEL_S = 5.0
_BANNER_LIMIT_BYTES = 1 << 20


class Stream(Protocol):
    """Bytes to and from a program on the far machine."""

    async def read(self) -> bytes:
        """Return what has come; nothing at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send, and wait while much is on its way."""
        ...

    async def forward(self, host: str, port: int) -> int:
        """Make a port of the far machine's loopback lead to *host*:*port* here; return it.

        Raises:
            TransportError: The far machine does not allow it.
        """
        ...

    async def last_words(self) -> str:
        """Return the end of what came as standard error, waiting a moment for its end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FarFacts:
    """What the far end says of its machine."""

    account: Account
    path: str
    slurm_conf: str | None
    host: str
    process: dict[str, Any]
    """Names the far end itself, for its successor."""


class NotSent(TransportError):
    """The session ended before the far end could have heard of it."""


class Session:
    """Calls to one far end. When the stream ends, all calls under way fail, and so do later ones."""

    def __init__(self, stream: Stream, mark: bytes, *, silence_s: float) -> None:
        """Begin; `start_session` makes one."""
        self._stream, self._mark, self._silence_s = stream, mark, silence_s
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._sending = asyncio.Lock()
        self._over: str | None = None
        self._hello: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended."""
        return self._over is not None

    @property
    def stream(self) -> Stream:
        """What it goes over."""
        return self._stream

    async def hello(self) -> FarFacts:
        """Return what the far end says first.

        Raises:
            TransportError: It ended before.
        """
        try:
            said = (await asyncio.shield(self._hello)).head
        except _StreamEndedError as error:
            raise TransportError(str(error)) from error
        return FarFacts(
            account=Account(**said["account"]),
            path=said["path"],
            slurm_conf=said["slurm_conf"],
            host=said["host"],
            process=said["process"],
        )

    async def call(self, head: dict[str, Any], body: bytes = b"", *, limit_s: float) -> Message:
        """Ask for something to be done and return the answer.

        Cancelling this cancels the work, and waits for that.

        Args:
            head: What is to be done.
            body: Goes with it.
            limit_s: How long to wait although the link lives.

        Raises:
            LinkLost: It may have been done or not.
            CommandTimedOut: It was stopped; it may have done its work nevertheless.
            NotSent: It was not done, and can be asked of another session.
            TransportError: It was not done.
        """
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        is_sent = False
        try:
            async with asyncio.timeout(limit_s):
                pieces = list(
                    encode_message(self._mark, Message(call=number, head=head, body=body))
                )
                for piece in pieces:
                    is_sent = piece is pieces[-1]
                    await self._send(piece)
                return _checked(await answer, head)
        except TimeoutError:
            await self._cancel(number, answer)
            raise LinkLost(f"no answer within {limit_s:g} s") from None
        except asyncio.CancelledError:
            await self._cancel(number, answer)
            raise
        except _StreamEndedError as error:
            if is_sent:
                raise LinkLost(str(error)) from error
            raise NotSent(str(error)) from error
        finally:
            answer.cancel()
            self._waiting.pop(number, None)

    async def _send(self, piece: bytes) -> None:
        if self._over is not None:
            raise _StreamEndedError(self._over)
        async with self._sending:
            try:
                await self._stream.write(piece)
            except OSError as error:
                raise _StreamEndedError(str(error) or type(error).__name__) from error

    async def _cancel(self, number: int, answer: asyncio.Future[Message]) -> None:
        """End what a call has started; within a limit, wait until that is so."""
        if self._over is not None:
            return
        with contextlib.suppress(TimeoutError, _StreamEndedError):
            async with asyncio.timeout(_CANCEL_S):
                await self._send(encode_frame(self._mark, number, CANCEL))
                await answer

    async def run(self) -> None:
        """Take what comes, until the stream ends.

        Raises:
            TransportError: Always, because it has ended; says how.
        """
        try:
            async with asyncio.TaskGroup() as group:
                beats = group.create_task(self._beat())
                try:
                    ending = await self._receive()
                finally:
                    beats.cancel()
        except* StreamBroken as broken:
            ending = f"the far machine sent what cannot be read: {broken.exceptions[0]}"
        except* OSError as failed:
            ending = str(failed.exceptions[0]) or type(failed.exceptions[0]).__name__
        finally:
            self._end("the link has been closed")
        raise TransportError(ending)

    def _end(self, text: str) -> None:
        self._over = self._over or text
        for future in (self._hello, *self._waiting.values()):
            if not future.done():
                future.set_exception(_StreamEndedError(self._over))
                future.exception()  # it may be that nobody awaits it any more

    async def _receive(self) -> str:
        frames, assembly = FrameReader(self._mark), Assembly()
        while True:
            try:
                async with asyncio.timeout(self._silence_s):
                    data = await self._stream.read()
            except TimeoutError:
                ending = f"nothing was heard for {self._silence_s:g} s"
                self._end(ending)
                return ending
            if not data:
                words = await self._stream.last_words()
                ending = f"the far end has gone: {words or 'it said nothing'}"
                self._end(ending)
                return ending
            for frame in frames.feed(data):
                message = assembly.add(frame)
                if message is not None:
                    self._deliver(message)

    def _deliver(self, message: Message) -> None:
        future = self._waiting.get(message.call) if message.call else self._hello
        if future is not None and not future.done():
            future.set_result(message)

    async def _beat(self) -> None:
        with contextlib.suppress(_StreamEndedError):
            while True:
                await asyncio.sleep(self._silence_s / 4)
                await self._send(encode_frame(self._mark, 0, BEAT))


async def start_session(stream: Stream, marker: str, *, silence_s: float) -> Session:
    """Start the far end behind a stream whose command was `render_start_command(…, marker)`.

    Raises:
        TransportError: There is no far end; says what came instead.
    """
    rest = await _find_marker(stream, marker)
    if rest:
        raise TransportError(f"the far end's Python printed {rest[:200]!r} at its start")
    mark = secrets.token_bytes(MARK_BYTES)
    await stream.write(render_source(mark, silence_s=silence_s))
    return Session(stream, mark, silence_s=silence_s)


async def _find_marker(stream: Stream, marker: str) -> bytes:
    """Read past what start-up files print."""
    line = marker.encode() + b"\n"
    said = b""
    while line not in said:
        data = await stream.read()
        if not data:
            words = await stream.last_words() or said.decode("utf-8", "replace")
            raise TransportError(
                f"no program can be run there: {words.strip()[-500:] or 'silence'}"
            )
        said += data
        if len(said) > _BANNER_LIMIT_BYTES:
            raise TransportError(
                f"the login shell's start-up files print without end: {said[:200]!r}"
            )
    banner, _, rest = said.partition(line)
    if banner:
        log.debug("start-up files print", extra={"bytes": len(banner)})
    return rest


def new_start(pythons: Sequence[str]) -> tuple[str, str]:
    """Return a start command and its marker, a new one each time."""
    marker = secrets.token_hex(16)
    return render_start_command(pythons, marker), marker


def _checked(message: Message, head: dict[str, Any]) -> Message:
    text = message.head.get("text", "")
    match message.head.get("error"):
        case None:
            return message
        case "timed out":
            raise CommandTimedOut(head.get("argv", ["?"]), head.get("timeout_s", 0))
        case "fault":
            raise TransportError(f"the far end failed: {text}")
        case _:
            raise TransportError(text or "it was cancelled")


class _StreamEndedError(Exception):
    """There is no far end any more."""
