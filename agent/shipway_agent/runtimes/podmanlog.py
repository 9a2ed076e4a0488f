"""The output of a container of Podman's service, read from the file in which conmon keeps it.

The service's own log stream loses bytes of long lines that it reads while they are written (seen
with Podman 4.3: a thousand of 140,000 bytes, once in 40 runs on a busy machine).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from pathlib import Path
from typing import IO, Any

from shipway_agent.errors import RuntimeUnavailable, UnreadableAnswer
from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame, merge_frames
from shipway_agent.runtimes.foldernews import FolderNews
from shipway_agent.runtimes.spec import Chunk

_READ_BYTES = 1 << 20
_LONGEST_SILENCE_S = 1.0
"""How long nobody may tell of news before we look nevertheless."""
_BATCH_S = 0.02
"""How long news are let pile up: who writes line by line is not read line by line."""
_streams = {b"stdout": STDOUT, b"stderr": STDERR}


async def read_log(path: Path, end: Awaitable[object], news: FolderNews) -> AsyncGenerator[Chunk]:
    """Yield the output from its first byte until the container has ended.

    Args:
        path: The log; it is there as soon as the container was started.
        end: Done when the container has ended.
        news: Tells when the log grows.

    Raises:
        RuntimeUnavailable: We may not read the log.
    """
    ending = asyncio.ensure_future(end)
    stream: IO[bytes] | None = None
    rest = b""
    try:
        with news.of(path.parent) as told:
            while True:
                # In this order: what is written before the end is there after the end was seen, and
                # what is written after we have looked is told of.
                has_ended = ending.done()
                told.clear()
                stream = stream or await asyncio.to_thread(_open, path)
                data = await asyncio.to_thread(stream.read, _READ_BYTES) if stream else b""
                if data:
                    frames, rest = parse_lines(rest + data)
                    for chunk in merge_frames(frames):
                        yield chunk
                elif has_ended:
                    await ending  # raises what made it fail
                    return
                else:
                    await _wait_for_news(ending, told)
    finally:
        ending.cancel()
        if stream is not None:
            stream.close()


async def _wait_for_news(ending: asyncio.Future[object], told: asyncio.Event) -> None:
    telling = asyncio.ensure_future(told.wait())
    awaited: list[asyncio.Future[Any]] = [ending, telling]
    try:
        await asyncio.wait(awaited, timeout=_LONGEST_SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        telling.cancel()
    if told.is_set():
        await asyncio.sleep(_BATCH_S)


def read_log_end(path: Path, *, size_bytes: int = 4096) -> bytes:
    """Return the last of what an ended container wrote to stderr; blocking.

    Raises:
        OSError: The log cannot be read.
    """
    with path.open("rb") as stream:
        start = max(0, path.stat().st_size - size_bytes)
        stream.seek(start)
        text = stream.read()
    if start:  # somewhere in a line
        text = text.partition(b"\n")[2]
    frames, _ = parse_lines(text)
    return b"".join(data for number, data in frames if number == STDERR)


def parse_lines(text: bytes) -> tuple[list[Frame], bytes]:
    """Read whole lines of a log: `time stream F|P content`, where P says that no newline followed.

    Returns:
        What was written, and the beginning of a line that is not all there yet.
    """
    *lines, rest = text.split(b"\n")
    return [_parse_line(line) for line in lines], rest


def _parse_line(line: bytes) -> Frame:
    parts = line.split(b" ", 3)
    stream = _streams.get(parts[1]) if len(parts) == 4 else None
    if stream is None or parts[2] not in {b"F", b"P"}:
        raise UnreadableAnswer(f"a line of podman's log has an unknown form: {line[:200]!r}")
    return stream, parts[3] + (b"\n" if parts[2] == b"F" else b"")


def _open(path: Path) -> IO[bytes] | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise RuntimeUnavailable(
            f"podman's log {path} cannot be read; run the agent as the user of that podman, or set"
            " container_runtime: podman with the podman program on PATH"
        ) from error
