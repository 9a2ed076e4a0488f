"""Bytes of a task's output to lines, with bounds on memory and delay.

Nothing is decoded here: a line is bytes, and `wire_text` makes text of them at the very end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from shipway_agent.runtimes.spec import Stream

_CR, _LF = 0x0D, 0x0A


class Line(NamedTuple):  # a tuple, because one is made for each line of each task
    """One line, or a piece of one that was too long or too slow to wait for."""

    stream: Stream
    text: bytes
    """Without the line end."""
    end: int
    """Bytes of the stream up to here, line end included: where to go on after this line."""
    complete: bool
    """False if the line end had not come yet; the next line of the stream continues this one."""


class LineSplitter:
    """Splits the streams of one task; each stream by itself.

    A line ends at LF, CR or CR LF, so what a progress bar draws shows as lines; nothing before a
    CR is no line. A line longer than the limit comes in pieces, one that does not end comes after
    the delay, and neither cut goes through a UTF-8 character. What a byte begins or continues is
    told by the byte before it, so that reading again from a line's `end` gives no text twice.
    """

    def __init__(
        self,
        *,
        max_line_bytes: int = 64 * 1024,
        max_delay_s: float = 2.0,
        skip: Mapping[Stream, int] | None = None,
    ) -> None:
        """Make a splitter of streams that begin now.

        Args:
            max_line_bytes: The longest text of a line, at least 4.
            max_delay_s: How long the beginning of a line waits for its end.
            skip: How many bytes at the start of each stream were dealt with before.
        """
        if max_line_bytes < 4:
            raise ValueError(f"max_line_bytes is {max_line_bytes}; one character may need 4")
        self._max_line_bytes = max_line_bytes
        self._max_delay_s = max_delay_s
        self._streams: dict[Stream, _Unfinished] = {
            stream: _Unfinished(skip=offset) for stream, offset in (skip or {}).items()
        }

    def feed(self, stream: Stream, data: bytes, now: float) -> list[Line]:
        """Take bytes as they came; returns the lines they end, and those that waited too long.

        Args:
            now: Seconds of a clock that does not go back.
        """
        rest = self._streams.setdefault(stream, _Unfinished())
        data = rest.drop_skipped(data)
        lines: list[Line] = []
        if data:
            if rest.held_cr:
                data, rest.held_cr = b"\r" + data, False
            if data[-1] == _CR:  # the next byte tells whether this is half of a CR LF
                data, rest.held_cr = data[:-1], True
            for piece in data.splitlines(keepends=True):
                self._take(stream, rest, piece, lines)
            if not rest.is_open:
                rest.waits_since = None
            elif lines or rest.waits_since is None:
                rest.waits_since = now
        lines.extend(self.due(now))
        return lines

    def due(self, now: float) -> list[Line]:
        """Return the unfinished lines that have waited long enough."""
        lines: list[Line] = []
        for stream, rest in self._streams.items():
            if rest.waits_since is not None and now - rest.waits_since >= self._max_delay_s:
                self._release(stream, rest, _whole_characters(rest.pending), lines)
        return lines

    def deadline(self) -> float | None:
        """Return when `due` has something to give, on the clock of `feed`; None: never by itself."""
        waiting = [
            rest.waits_since for rest in self._streams.values() if rest.waits_since is not None
        ]
        return min(waiting) + self._max_delay_s if waiting else None

    def flush(self) -> list[Line]:
        """Return what is left of lines that will not end any more."""
        lines: list[Line] = []
        for stream, rest in self._streams.items():
            self._release(stream, rest, len(rest.pending), lines)
        return lines

    def _take(self, stream: Stream, rest: _Unfinished, piece: bytes, lines: list[Line]) -> None:
        """Deal with text that has one line end, or none, at its end."""
        text = piece.rstrip(b"\r\n")
        if rest.pending or len(text) == len(piece) or len(text) > self._max_line_bytes:
            rest.pending += text
            while len(rest.pending) > self._max_line_bytes:
                whole = _whole_characters(rest.pending[: self._max_line_bytes])
                self._cut(stream, rest, whole or self._max_line_bytes, lines)
            if len(text) == len(piece):
                return
            piece = bytes(rest.pending) + piece[len(text) :]
            text = bytes(rest.pending)
            rest.pending.clear()
        # An end alone is an empty line at a line's start, unless it is a CR, or the LF of a CR LF
        # whose CR was given out before; after a piece of a line it is just that line's end.
        at_start = rest.last in (None, _LF, _CR)
        second_half = piece == b"\n" and rest.last == _CR
        is_line = bool(text) or (at_start and piece != b"\r" and not second_half)
        rest.advance(piece)
        if is_line:
            lines.append(Line(stream, text, rest.offset, True))

    def _release(self, stream: Stream, rest: _Unfinished, length: int, lines: list[Line]) -> None:
        """Give out *length* bytes of an unfinished line, and a CR that nothing followed."""
        rest.waits_since = None
        if rest.held_cr:
            rest.held_cr = False
            self._take(stream, rest, b"\r", lines)
        elif length:
            self._cut(stream, rest, length, lines)

    def _cut(self, stream: Stream, rest: _Unfinished, length: int, lines: list[Line]) -> None:
        text = bytes(rest.pending[:length])
        del rest.pending[:length]
        rest.advance(text)
        lines.append(Line(stream, text, rest.offset, False))


@dataclass(slots=True)
class _Unfinished:
    """What one stream has of a line that has not ended."""

    skip: int = 0
    offset: int = 0
    """Bytes dealt with: skipped, or given out as lines."""
    last: int | None = None
    """The byte before `offset`."""
    pending: bytearray = field(default_factory=bytearray)
    held_cr: bool = False
    """A CR came after `pending`, and nothing since."""
    waits_since: float | None = None

    @property
    def is_open(self) -> bool:
        return bool(self.pending) or self.held_cr

    def advance(self, consumed: bytes) -> None:
        self.offset += len(consumed)
        self.last = consumed[-1]

    def drop_skipped(self, data: bytes) -> bytes:
        missing = self.skip - self.offset
        if missing <= 0 or not data:
            return data
        skipped = data[:missing]
        self.advance(skipped)
        return data[len(skipped) :]


def wire_text(text: bytes) -> str:
    """Decode a line for the wire: U+FFFD for what is not UTF-8, U+2400 for NUL.

    The master's database cannot hold NUL and would refuse the line, and its batch with it.
    """
    return text.decode("utf-8", "replace").replace("\x00", "\u2400")


def _whole_characters(data: bytes | bytearray) -> int:
    """Return the length of *data* without an unfinished UTF-8 character at its end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return len(data) - back if back < needed and byte < 0xF5 else len(data)
    return len(data)
