"""The files by which a shim and the agent talk: names, records, and the form of the output.

A shim's folder outlives both of them. It holds, as they come: `launch.json` (what to run; gone once
it runs, for it has secrets), `claim`, `output.0` and on, `started.json` and `exit.json`; `shim.log`
if the shim itself broke; `unread` where nobody will ever read the output; and `lost` if the shim
was killed.
"""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame
from shipway_agent.runtimes.processes import ProcessIdentity
from shipway_common.files import write_atomic

LAUNCH = "launch.json"
STARTED = "started.json"
EXIT = "exit.json"
CLAIM = "claim"
"""Made, and locked as long as it lives, by the shim that has the folder; there is never a second one."""
UNREAD = "unread"
LOST = "lost"
"""Made by the guard of a shim that was killed, as news for those who wait for its output."""
LOG = "shim.log"

READ_ON = signal.SIGUSR1
"""Tells a shim to hold the task up no more, and rather to drop output."""

VERSION = 2
FRAME_HEADER = struct.Struct(">BI")
"""Before each piece of output: which stream, and how many bytes."""


_SEGMENT = "output."
_SEGMENT_HEADER = struct.Struct(">QQ")


class PayloadKind(StrEnum):
    """How to find the task's first process behind the program that a shim starts."""

    PROCESS = "process"
    """It is that program."""
    BUBBLEWRAP = "bubblewrap"
    """It is the child of the init process that bwrap reports."""
    APPTAINER = "apptainer"
    """It is the first one below that program that is none of Apptainer's own."""
    ENROOT = "enroot"
    """It is that program, once that has become the container's after a mark on stderr."""
    PODMAN = "podman"
    """It is none of our children; that program is a client, and podman knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a shim is to run."""

    kind: PayloadKind
    argv: tuple[str, ...]
    hidden_arguments: tuple[str, ...] = field(default=(), repr=False)
    """For bwrap: arguments that go through a pipe, because others can read a command line."""
    environment: Mapping[str, str] = field(repr=False)
    folder: str
    """Working folder."""
    user: tuple[int, int] | None = None
    """uid and gid to become, for a shim that runs as root."""
    output_user: tuple[int, int] | None = None
    """Whose stdout and stderr are, which it may then open anew, where that is not `user`."""
    mark: str = ""
    """Comes on stderr when a container begins; what comes before is the runtime's own."""
    kill_argv: tuple[str, ...] | None = None
    """Ends the work where killing our own children does not."""
    tethered: bool = False
    """End everything when standard input ends."""
    output_limit_bytes: int | None = None
    """How much output is kept for a reader before the task must wait for it."""
    output_patience_s: float = 60.0
    """How long it waits while nothing of that is taken, before what it writes is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRecord:
    """Who is who in a running shim's tree."""

    shim: ProcessIdentity
    guard: ProcessIdentity | None
    """Kills what the shim leaves behind if it is killed itself."""
    main: ProcessIdentity
    payload: ProcessIdentity | None
    """The task's first process; None while it is not there yet, or is podman's."""
    sessions: tuple[int, ...] = ()
    """The sessions of those two: what is left in them, if the shim is killed, is the task's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How the program of a shim ended."""

    code: int | None
    """As a shell gives it."""
    signal: int | None
    launched: bool
    """False if the task's own program never ran."""
    killed: bool = False
    """Whether the shim was told to end it."""
    out_of_memory: bool = False
    message: str = ""
    """Why it was not launched, in the words of whoever refused."""


def save_record(path: Path, record: Launch | StartedRecord | ExitRecord) -> None:
    """Write a record, whole or not at all."""
    write_atomic(path, encode_record(record))


def encode_record(record: Launch | StartedRecord | ExitRecord) -> bytes:
    """Return the record as JSON; undecodable bytes in its text survive."""
    return json.dumps({"version": VERSION, **asdict(record)}).encode("ascii")


def load_launch(path: Path) -> Launch:
    """Read a launch.

    Raises:
        FileNotFoundError: There is none (any more).
    """
    data = _load(path)
    return Launch(
        kind=PayloadKind(data["kind"]),
        argv=tuple(data["argv"]),
        hidden_arguments=tuple(data["hidden_arguments"]),
        environment=data["environment"],
        folder=data["folder"],
        user=_read_user(data["user"]),
        output_user=_read_user(data.get("output_user")),
        mark=data["mark"],
        kill_argv=tuple(data["kill_argv"]) if data["kill_argv"] else None,
        tethered=data["tethered"],
        output_limit_bytes=data["output_limit_bytes"],
        output_patience_s=data["output_patience_s"],
    )


def _read_user(numbers: list[int] | None) -> tuple[int, int] | None:
    return (numbers[0], numbers[1]) if numbers else None


def find_started(path: Path) -> StartedRecord | None:
    """Read who runs; None if nothing was started."""
    try:
        data = _load(path)
    except FileNotFoundError:
        return None
    return StartedRecord(
        shim=ProcessIdentity(**data["shim"]),
        guard=ProcessIdentity(**data["guard"]) if data["guard"] else None,
        main=ProcessIdentity(**data["main"]),
        payload=ProcessIdentity(**data["payload"]) if data["payload"] else None,
        sessions=tuple(data["sessions"]),
    )


def find_exit(path: Path) -> ExitRecord | None:
    """Read how it ended; None if it has not."""
    try:
        data = _load(path)
    except FileNotFoundError:
        return None
    del data["version"]
    return ExitRecord(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One of the files that hold the output, one after the other."""

    number: int
    path: Path


def segment_path(folder: Path, number: int) -> Path:
    """Return where a part of the output is."""
    return folder / f"{_SEGMENT}{number}"


def list_segments(folder: Path) -> list[Segment]:
    """Find the parts of the output that are still there, in order."""
    numbers = [
        int(name.removeprefix(_SEGMENT))
        for name in os.listdir(folder)
        if name.startswith(_SEGMENT) and name.removeprefix(_SEGMENT).isdigit()
    ]
    return [Segment(number=n, path=segment_path(folder, n)) for n in sorted(numbers)]


def encode_segment_header(ends: Mapping[int, int]) -> bytes:
    """Return the head of a segment: how much of each stream the ones before it hold."""
    return _SEGMENT_HEADER.pack(ends.get(STDOUT, 0), ends.get(STDERR, 0))


def read_segment_header(stream: IO[bytes]) -> dict[int, int] | None:
    """Read at which offset of each stream a segment begins; None if that is not written yet."""
    data = stream.read(_SEGMENT_HEADER.size)
    if len(data) < _SEGMENT_HEADER.size:
        stream.seek(0)
        return None
    return dict(zip((STDOUT, STDERR), _SEGMENT_HEADER.unpack(data), strict=True))


def encode_frame_header(stream: int, length: int) -> bytes:
    """Return what stands before a piece of output in a segment."""
    return FRAME_HEADER.pack(stream, length)


def split_frames(buffer: bytes) -> tuple[list[Frame], bytes]:
    """Cut whole pieces off the front of *buffer*.

    Returns:
        The pieces, each as stream and bytes, and what is left.
    """
    frames: list[Frame] = []
    offset = 0
    for start, stream, length in _headers(buffer):
        offset = start + length
        frames.append((stream, buffer[start:offset]))
    return frames, buffer[offset:]


def _headers(buffer: bytes) -> Iterator[tuple[int, int, int]]:
    offset = 0
    while offset + FRAME_HEADER.size <= len(buffer):
        stream, length = FRAME_HEADER.unpack_from(buffer, offset)
        offset += FRAME_HEADER.size
        if offset + length > len(buffer):
            return
        yield offset, stream, length
        offset += length


def _load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_bytes())
    if data["version"] != VERSION:
        raise ValueError(f"{path} has version {data['version']}; this program reads {VERSION}")
    return data
