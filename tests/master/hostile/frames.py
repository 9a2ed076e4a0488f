"""Hostile calls over gRPC: messages with values that fit nowhere, and bytes that are none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from shipway_master.rpc import Method
from shipway_master.rpc.methods import SERVICE_NAME
from tests.master.hostile.rest import ANSWER_LIMIT_S, WAIT_S, WAITING
from tests.master.hostile.values import TEXTS, Known, make_object

_OURS: Final = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAVAILABLE,
}
"""What a caller is told when it is not his fault."""

_EDGES: Final = {
    FieldDescriptor.CPPTYPE_INT32: (2**31 - 1, -(2**31), -1, 0),
    FieldDescriptor.CPPTYPE_INT64: (2**63 - 1, -(2**63), 2**31, -1, 0),
    FieldDescriptor.CPPTYPE_UINT32: (2**32 - 1, 0),
    FieldDescriptor.CPPTYPE_UINT64: (2**64 - 1, 2**63, 0),
    FieldDescriptor.CPPTYPE_DOUBLE: (float("nan"), float("inf"), -1e308, 5e-324),
    FieldDescriptor.CPPTYPE_FLOAT: (float("nan"), float("-inf"), 3e38),
    FieldDescriptor.CPPTYPE_BOOL: (True, False),
    FieldDescriptor.CPPTYPE_ENUM: (99, -1, 2**31 - 1, 0),
}


@dataclass(frozen=True)
class Frame:
    """One call: a method and the bytes of its message."""

    method: str
    is_stream: bool
    data: bytes
    metadata: tuple[tuple[str, str | bytes], ...]

    def __str__(self) -> str:
        return f"{self.method}: {self.data[:600]!r}"


def make_frame(method: Method, known: Known, rng: random.Random, *, token: str) -> Frame:
    """Bend a call of *method* in one way or several."""
    message = method.request()
    try:
        ParseDict(make_object(method.request.DESCRIPTOR, known, rng), message)
    except (ParseError, SystemError):  # the second for names that are no text
        message.Clear()
    for _ in range(rng.randrange(3)):
        _bend(message, rng, keep=known.always)
    data = message.SerializeToString()
    if rng.random() < 0.25:
        data = _garble(data, rng)
    metadata: list[tuple[str, str | bytes]] = []
    if rng.random() < 0.95:
        metadata.append(("authorization", f"Bearer {token}"))
    if rng.random() < 0.05:
        metadata.append(rng.choice(_STRANGE))
    name = method.name if rng.random() < 0.98 else rng.choice(("", "GetNothing", "..", "a/b"))
    return Frame(name, method.is_stream, data, tuple(metadata))


_STRANGE: Final[Sequence[tuple[str, str | bytes]]] = (
    ("x-junk-bin", b"\0\xff\xfe" * 50),
    ("authorization", "Bearer again"),
    ("x-allocation-token", "Bearer  "),
    ("x-user-token", ""),
    ("grpc-metadata-x-user-token", "Basic YTpi"),
    ("x-long", "a" * 7000),
    ("te", "chunked"),
)


async def call(channel: grpc.aio.Channel, frame: Frame) -> tuple[str, str | None]:
    """Make the call; return how it ended, and what is wrong with that, or None if nothing is."""
    path = f"/{SERVICE_NAME}/{frame.method}"
    may_wait = frame.is_stream or frame.method in WAITING
    started: Any
    data: Any = frame.data  # the types of grpc want a message
    if frame.is_stream:
        started = channel.unary_stream(path)(data, metadata=frame.metadata)
        answer = started.read()
    else:
        started = answer = channel.unary_unary(path)(data, metadata=frame.metadata)
    try:
        await asyncio.wait_for(answer, WAIT_S if may_wait else ANSWER_LIMIT_S)
    except TimeoutError:
        return "waits", None if may_wait else "it hangs"
    except grpc.aio.AioRpcError as error:
        code, details = error.code(), error.details() or ""
        is_ours = code in _OURS or "Traceback" in details
        return code.name, f"{code}: {details}" if is_ours else None
    finally:
        started.cancel()
    return "OK", None


def _bend(message: Message, rng: random.Random, *, keep: frozenset[str]) -> None:
    """Put a value of the right type, and no other virtue, into some field."""
    fields: list[Any] = list(message.DESCRIPTOR.fields)
    enums = [field for field in fields if field.enum_type is not None]
    # Only here can an enum be a number that it does not have.
    chosen = enums if enums and rng.random() < 0.3 else fields
    field = rng.choice(chosen) if chosen else None
    if field is None or field.name in keep:
        return
    value: Any = getattr(message, field.name)
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            return
        _bend(value.add() if field.is_repeated else value, rng, keep=keep)
        return
    evil = _evil_for(field, rng)
    if field.is_repeated:
        value.append(evil)
    else:
        setattr(message, field.name, evil)


def _evil_for(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.choice((0, 3, 70_000)))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return rng.choice(TEXTS).encode(errors="replace").decode()
    return rng.choice(_EDGES[field.cpp_type])


def _garble(data: bytes, rng: random.Random) -> bytes:
    match rng.randrange(6):
        case 0:
            return data[: rng.randrange(len(data) + 1)]
        case 1:
            return data + rng.randbytes(rng.choice((1, 5, 500)))
        case 2:
            return rng.randbytes(rng.choice((1, 20, 2000)))
        case 3:  # a text that is no UTF-8, in field 1, 2 or 3
            return data + bytes([rng.choice((0x0A, 0x12, 0x1A)), 3]) + b"\xff\xfe\xed"
        case 4:  # field 1 within field 1, two hundred times
            deep = b""
            for _ in range(60):
                deep = b"\x0a" + bytes([len(deep)]) + deep if len(deep) < 120 else deep
            return deep
        case _:
            at = rng.randrange(len(data) + 1)
            return data[:at] + b"\xff" * 11 + data[at:]
