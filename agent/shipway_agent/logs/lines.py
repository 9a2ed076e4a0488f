"""Bytes of a task's output to lines, many at once, with bounds on memory and delay.

A line is UTF-8 that a master's database takes, with its line end; nothing is decoded on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

from shipway_agent.logs.prefix import any_prefix
from shipway_agent.runtimes.spec import Stream

GROUP_LINES = 1000
"""At most so many lines are handled as one."""

GOES_ON = b" [shipway: the line goes on]"
"""At the end of a piece of a line that is longer than the limit."""

_CR, _LF = 0x0D, 0x0A
_SLICE_BYTES = 256 * 1024
_NUL, _NUL_SHOWN = b"\x00", "\u2400".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Lines of one stream that follow each other."""

    stream: Stream
    texts: Sequence[bytes]
    """Each ends with LF, which is its only one."""
    has_prefixes: bool
    """Whether a rank or level stands before any of them."""
    begin: int
    """Bytes of the stream before the first of them."""
    end: int
    """Bytes of the stream up to here: where to go on after the last of them."""
    irregular_ends: Sequence[int] | None = None
    """Where each of them ends in the stream, if they are not just what lies there."""

    def ends(self) -> Iterable[int]:
        """Give the offset in the stream behind each of them."""
        if self.irregular_ends is not None:
            return self.irregular_ends
        return islice(accumulate(map(len, self.texts), initial=self.begin), 1, None)


class LineSplitter:
    """Splits the streams of one task; each stream by itself.

    A line ends at LF, CR or CR LF, so what a progress bar draws shows as lines; nothing before a
    CR is no line. A line longer than the limit comes in pieces that say so, one that does not end
    comes after the delay, and neither cut goes through a UTF-8 character. What a byte begins or
    continues is told by the byte before it, so that reading again from an `end` gives no text
    twice. U+FFFD takes the place of what is not UTF-8, U+2400 that of NUL, for which the master's
    database would refuse the line, and its batch with it.
    """

    def __init__(
        self,
        *,
        max_line_bytes: int = 64 * 1024,
        max_delay_s: float = 2.0,
        skip: Mapping[Stream, int] | None = None,
        begins: Mapping[Stream, int] | None = None,
    ) -> None:
        """Make a splitter of streams that begin now.

        Args:
            max_line_bytes: The longest text of a line, at least 4.
            max_delay_s: How long the beginning of a line waits for its end.
            skip: How many bytes at the start of each stream were dealt with before.
            begins: At which offset of each stream the first byte comes that is fed.
        """
        if max_line_bytes < 4:
            raise ValueError(f"max_line_bytes is {max_line_bytes}; one character may need 4")
        self._max_line_bytes = max_line_bytes
        self._max_delay_s = max_delay_s
        self._streams: dict[Stream, _Unfinished] = {}
        for stream, offset in (begins or {}).items():
            self._streams[stream] = _Unfinished(offset=offset)
        for stream, offset in (skip or {}).items():
            self._streams.setdefault(stream, _Unfinished()).skip = offset

    def feed(self, stream: Stream, data: bytes, now: float) -> Iterator[Lines]:
        """Take bytes as they came; gives the lines they end, and those that waited too long.

        To be iterated to its end.

        Args:
            now: Seconds of a clock that does not go back.
        """
        rest = self._streams.setdefault(stream, _Unfinished())
        data = rest.drop_skipped(data)
        before = rest.offset
        for begin in range(0, len(data), _SLICE_BYTES):
            yield from self._take(stream, rest, data[begin : begin + _SLICE_BYTES])
        if not rest.is_open:
            rest.waits_since = None
        elif data and (rest.offset > before or rest.waits_since is None):
            rest.waits_since = now
        yield from self.due(now)

    def due(self, now: float) -> Iterator[Lines]:
        """Give the unfinished lines that have waited long enough."""
        for stream, rest in self._streams.items():
            if rest.waits_since is not None and now - rest.waits_since >= self._max_delay_s:
                rest.waits_since = None
                yield from self._release(stream, rest, _whole_characters(rest.pending))

    def deadline(self) -> float | None:
        """Return when `due` has something to give, on the clock of `feed`; None: never by itself."""
        waiting = [
            rest.waits_since for rest in self._streams.values() if rest.waits_since is not None
        ]
        return min(waiting) + self._max_delay_s if waiting else None

    def flush(self) -> Iterator[Lines]:
        """Give what is left of lines that will not end any more."""
        for stream, rest in self._streams.items():
            rest.waits_since = None
            yield from self._release(stream, rest, len(rest.pending))

    def _take(self, stream: Stream, rest: _Unfinished, data: bytes) -> Iterator[Lines]:
        if rest.held_cr:
            data, rest.held_cr = b"\r" + data, False
        if data[-1] == _CR:  # the next byte tells whether this is half of a CR LF
            data, rest.held_cr = data[:-1], True
        cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if cut:
            whole = bytes(rest.pending) + data[:cut] if rest.pending else data[:cut]
            rest.pending.clear()
            yield from self._whole_lines(stream, rest, whole)
        rest.pending += data[cut:]
        while len(rest.pending) > self._max_line_bytes:
            yield self._piece(stream, rest, self._cut(rest.pending), GOES_ON)

    def _release(self, stream: Stream, rest: _Unfinished, length: int) -> Iterator[Lines]:
        """Give out *length* bytes of an unfinished line, or all and the CR that ends it."""
        if rest.held_cr:
            rest.held_cr = False
            whole = bytes(rest.pending) + b"\r"
            rest.pending.clear()
            yield from self._whole_lines(stream, rest, whole)
        elif length:
            yield self._piece(stream, rest, length, b"")

    def _piece(self, stream: Stream, rest: _Unfinished, length: int, mark: bytes) -> Lines:
        raw = bytes(rest.pending[:length])
        del rest.pending[:length]
        begin = rest.offset
        rest.advance(len(raw), raw[-1])
        text = clean_text(raw)
        return Lines(
            stream=stream,
            texts=[text + mark + b"\n"],
            has_prefixes=any_prefix(text),
            begin=begin,
            end=rest.offset,
            irregular_ends=[rest.offset],
        )

    def _whole_lines(self, stream: Stream, rest: _Unfinished, data: bytes) -> Iterator[Lines]:
        """Deal with text that ends where a line does; in groups that are not too large."""
        raw = data.splitlines(keepends=True)
        clean = clean_text(data)
        if b"\r" in clean:
            clean = clean.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        has_prefixes = any_prefix(clean)
        texts = raw if clean is data else clean.splitlines(keepends=True)
        is_regular = clean is data and (
            len(data) <= self._max_line_bytes or max(map(len, raw)) <= self._max_line_bytes
        )
        for first in range(0, len(raw), GROUP_LINES):
            group_raw, group = raw[first : first + GROUP_LINES], texts[first : first + GROUP_LINES]
            begin, ends_last = rest.offset, _is_end_alone(rest.last, group_raw[0])
            ends: list[int] | None = None
            if not is_regular or ends_last:
                pairs = zip(group, group_raw, strict=True)
                found = list(self._texts(pairs, begin, ends_last=ends_last))
                group, ends = [text for text, _ in found], [end for _, end in found]
            rest.advance(sum(map(len, group_raw)), group_raw[-1][-1])
            if group:
                yield Lines(
                    stream=stream,
                    texts=group,
                    has_prefixes=has_prefixes,
                    begin=begin,
                    end=rest.offset,
                    irregular_ends=ends,
                )

    def _texts(
        self, pairs: Iterable[tuple[bytes, bytes]], offset: int, *, ends_last: bool
    ) -> Iterator[tuple[bytes, int]]:
        """Give what lines become, and where each ends: nothing, itself, or pieces.

        Args:
            pairs: Each line in its clean form and as it came.
            offset: Where the first begins.
            ends_last: The first is the end of what was given out before.
        """
        for text, raw in pairs:
            end = offset + len(raw)
            if not ends_last and raw != b"\r":
                if len(raw) > self._max_line_bytes:
                    line = raw.rstrip(b"\r\n")
                    while len(line) > self._max_line_bytes:
                        length = self._cut(line)
                        offset += length
                        yield clean_text(line[:length]) + GOES_ON + b"\n", offset
                        line = line[length:]
                    text = clean_text(line) + b"\n"
                yield text, end
            ends_last, offset = False, end

    def _cut(self, text: bytes | bytearray) -> int:
        """Say where to cut a text that is too long."""
        return _whole_characters(text[: self._max_line_bytes]) or self._max_line_bytes


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

    def advance(self, length: int, last: int) -> None:
        self.offset += length
        self.last = last

    def drop_skipped(self, data: bytes) -> bytes:
        missing = self.skip - self.offset
        if missing <= 0 or not data:
            return data
        skipped = data[:missing]
        self.advance(len(skipped), skipped[-1])
        return data[len(skipped) :]


def clean_text(text: bytes) -> bytes:
    """Return what a master can store of *text*; the very object if that is all of it."""
    if not text.isascii() and not _is_utf8(text):
        text = text.decode("utf-8", "replace").encode()
    return text.replace(_NUL, _NUL_SHOWN) if _NUL in text else text


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_end_alone(last: int | None, piece: bytes) -> bool:
    """Tell whether *piece*, after the byte *last*, only ends what was given out before.

    That is so after a piece of a line, and with the LF of a CR LF whose CR came before.
    """
    if last in (None, _LF, _CR):
        return piece == b"\n" and last == _CR
    return piece in {b"\n", b"\r", b"\r\n"}


def _whole_characters(data: bytes | bytearray) -> int:
    """Return the length of *data* without an unfinished UTF-8 character at its end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return len(data) - back if back < needed and byte < 0xF5 else len(data)
    return len(data)
