"""Pieces of output on their way from a runtime to the agent."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from shipway_agent.runtimes.spec import Chunk

STDOUT, STDERR = 1, 2
"""The streams' numbers, in Docker's frames and in ours."""

Frame = tuple[int, bytes]


def merge_frames(frames: Iterable[Frame]) -> list[Chunk]:
    """Join neighbours of the same stream; a program may have written byte by byte."""
    return [
        Chunk(
            stream="stderr" if stream == STDERR else "stdout",
            data=b"".join(data for _, data in pieces),
        )
        for stream, pieces in groupby(frames, _stream_of)
    ]


def _stream_of(frame: Frame) -> int:
    return frame[0]
