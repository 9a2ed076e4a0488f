"""Many lines of one task as one compressed block of columns, and back.

The block, before Zstandard: a header (format, number of lines, sizes of the parts), the distinct origins
as JSON, then per line its length in characters, its time as a difference to the line before, and
the number of its origin; last all texts in one. Numbers are little-endian.
"""

from __future__ import annotations

import functools
import json
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, pairwise, repeat
from typing import Any

import zstandard

from shipway_master.errors import Internal
from shipway_master.logbook.lines import LogLine, Origin

_FORMAT = 1
_HEADER = struct.Struct("<BIII")
_LEVEL = 1
"""Of compression: higher ones cost more and save next to nothing."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Lines of one task, taken apart."""

    texts: Sequence[str]
    times_us: Sequence[int]
    origins: Sequence[Origin]
    """The distinct ones; of a piece, those of the whole."""
    origin_numbers: Sequence[int]
    """For each line, which of the origins it has."""

    def cut(self, *, max_lines: int, max_characters: int) -> Iterator[Columns]:
        """Cut the lines into pieces within the limits; a longer line is a piece of its own."""
        if len(self.texts) <= max_lines and sum(map(len, self.texts)) <= max_characters:
            yield self
            return
        start = characters = 0
        for number, length in enumerate(map(len, self.texts)):
            is_over = characters + length > max_characters or number - start >= max_lines
            if is_over and number > start:
                yield self.piece(start, number)
                start, characters = number, 0
            characters += length
        yield self.piece(start, len(self.texts))

    def piece(self, start: int, end: int) -> Columns:
        """Return the lines from number *start*, counted from 0, up to but without *end*."""
        return Columns(
            self.texts[start:end],
            self.times_us[start:end],
            self.origins,
            self.origin_numbers[start:end],
        )

    def picked(self, flags: Sequence[object]) -> Columns:
        """Return the lines whose flag is true."""
        return Columns(
            list(compress(self.texts, flags)),
            list(compress(self.times_us, flags)),
            self.origins,
            list(compress(self.origin_numbers, flags)),
        )

    def lines(self, task_id: str, ids: Iterable[int]) -> list[LogLine]:
        """Put the lines together, which have these ids."""
        origins: list[Iterable[Any]] = [
            repeat(values[0])
            if len(set(values)) == 1
            else [values[number] for number in self.origin_numbers]
            for values in zip(*self.origins, strict=True)
        ]
        rows = zip(
            repeat(task_id), self.texts, self.times_us, *origins, repeat(None), ids, strict=False
        )
        return list(map(_new_line, rows))


_new_line: Callable[[tuple[Any, ...]], LogLine] = functools.partial(tuple.__new__, LogLine)  # pyright: ignore[reportUnknownMemberType]


def columns_of(lines: Sequence[LogLine], now_us: int) -> Columns:
    """Take *lines*, at least one and all of one task, apart; those without a time arrived *now_us*."""
    _, texts, times, *origins, _, _ = zip(*lines, strict=True)
    numbers: dict[tuple[object, ...], int] = {}
    origin_numbers = [
        numbers.setdefault(origin, len(numbers)) for origin in zip(*origins, strict=True)
    ]
    if None in times:
        times = tuple(now_us if time is None else time for time in times)
    return Columns(texts, times, [Origin._make(origin) for origin in numbers], origin_numbers)


def joined(parts: Sequence[Columns]) -> Columns:
    """Put the lines of *parts* one after the other."""
    numbers: dict[Origin, int] = {}
    origin_numbers: list[int] = []
    for part in parts:
        renumbered = [numbers.setdefault(origin, len(numbers)) for origin in part.origins]
        origin_numbers += [renumbered[number] for number in part.origin_numbers]
    return Columns(
        [text for part in parts for text in part.texts],
        [time_us for part in parts for time_us in part.times_us],
        list(numbers),
        origin_numbers,
    )


def pack(columns: Columns) -> bytes:
    """Build the block of *columns*.

    Raises:
        UnicodeEncodeError: The name of an origin is no text.
    """
    count = len(columns.texts)
    texts = "".join(columns.texts).encode("utf-8", "replace")
    origins = json.dumps(columns.origins, ensure_ascii=False, separators=(",", ":")).encode()
    times = columns.times_us
    differences = array("q", times[:1])
    differences.extend([later - time for time, later in pairwise(times)])
    parts = [
        _HEADER.pack(_FORMAT, count, len(origins), len(texts)),
        origins,
        _little(array("I", map(len, columns.texts))).tobytes(),
        _little(differences).tobytes(),
        _little(array("H", columns.origin_numbers)).tobytes(),
        texts,
    ]
    return zstandard.compress(b"".join(parts), _LEVEL)


def read_origins(block: bytes) -> list[Origin]:
    """Read only where the lines of a block come from.

    Raises:
        Internal: As `unpack`.
    """
    try:
        with zstandard.ZstdDecompressor().stream_reader(block) as stream:
            form, _, origins_size, _ = _HEADER.unpack(stream.read(_HEADER.size))
            _check_form(form)
            origins = stream.read(origins_size)
    except (zstandard.ZstdError, struct.error) as error:
        raise Internal(f"a block of the task logs is damaged: {error}") from error
    return _parse_origins(origins)


def unpack(block: bytes) -> Columns:
    """Take a block apart again.

    Raises:
        Internal: It is none, or one of a newer release.
    """
    try:
        content = zstandard.decompress(block)
        form, count, origins_size, texts_size = _HEADER.unpack_from(content)
    except (zstandard.ZstdError, struct.error) as error:
        raise Internal(f"a block of the task logs is damaged: {error}") from error
    _check_form(form)
    view = memoryview(content)
    position = _HEADER.size

    def take(size: int) -> memoryview:
        nonlocal position
        part = view[position : position + size]
        position += size
        return part

    origins = _parse_origins(bytes(take(origins_size)))
    lengths = _read("I", take(4 * count))
    differences = _read("q", take(8 * count))
    origin_numbers = _read("H", take(2 * count))
    text = str(take(texts_size), "utf-8")
    ends = list(accumulate(lengths))
    texts = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return Columns(texts, list(accumulate(differences)), origins, origin_numbers)


def _check_form(form: int) -> None:
    if form != _FORMAT:
        raise Internal(f"a block of the task logs has the unknown format {form}")


def _parse_origins(text: bytes) -> list[Origin]:
    return [Origin._make(origin) for origin in json.loads(text)]


def _read(code: str, part: memoryview) -> array[int]:
    numbers: array[int] = array(code)
    numbers.frombytes(part)
    return _little(numbers)


def _little(numbers: array[int]) -> array[int]:
    """Swap the bytes where the machine is not little-endian, in place."""
    if sys.byteorder != "little":
        numbers.byteswap()
    return numbers
