"""Lines made ready for the database; pure, so that it can be done in any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shipway_master.logbook.chunks import Columns, columns_of, pack
from shipway_master.logbook.lines import LogLine

_MOST_LINES = 4096
_MOST_CHARACTERS = 256 * 1024


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of a task that follow each other."""

    count: int
    oldest_us: int
    newest_us: int
    data: bytes
    """As `chunks` packs it."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Lines of a task, ready to be stored."""

    task_id: str
    blocks: Sequence[Block]
    ends: dict[tuple[str, str], int]
    """For streams (container, stdtype) whose sender counts bytes: where the last line ends."""


def pack_lines(lines: Sequence[LogLine], now_us: int) -> Packed:
    """Pack *lines*, at least one and all of one task.

    Args:
        now_us: The time of those that have none, in microseconds since 1970.

    Raises:
        UnicodeEncodeError: The name of an origin is no text.
    """
    blocks = pack_columns(columns_of(lines, now_us))
    ends: dict[tuple[str, str], int] = {}
    for line in lines:
        if line.end_offset is not None and line.container_id and line.stdtype:
            ends[line.container_id, line.stdtype] = line.end_offset
    return Packed(lines[0].task_id, blocks, ends)


def pack_columns(columns: Columns) -> list[Block]:
    """Pack lines into as few blocks as their sizes allow."""
    pieces = columns.cut(max_lines=_MOST_LINES, max_characters=_MOST_CHARACTERS)
    return [
        Block(len(piece.texts), min(piece.times_us), max(piece.times_us), pack(piece))
        for piece in pieces
    ]
