"""From a message to JSON data, by a plan that is made once for each kind of message."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shipway_master.gateway.scalars import (
    WRAPPERS,
    map_entry,
    write_double,
    write_duration,
    write_time,
    writer,
)
from shipway_master.structs import list_to_plain, to_plain, value_to_plain

_Write = Callable[[Any], Any]
_Put = Callable[[Any, dict[str, Any]], None]

_compact: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_indented: Final = json.JSONEncoder(ensure_ascii=False, indent=2, allow_nan=False)
_plans: Final[dict[Descriptor, _Plan]] = {}


def to_json(message: Message, *, pretty: bool = False) -> bytes:
    """Write *message* as JSON text."""
    return dump(to_data(message), pretty=pretty)


def dump(data: Any, *, pretty: bool = False) -> bytes:
    """Write JSON data as text."""
    return (_indented if pretty else _compact).encode(data).encode()


def to_data(message: Message) -> Any:
    """Turn *message* into data that `json` can write."""
    descriptor: Any = message.DESCRIPTOR
    return _writer_of(descriptor)(message)


class _Plan:
    """How to write one kind of message; its fields are looked at when it is first used."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._puts: list[_Put] | None = None

    def write(self, message: Any) -> dict[str, Any]:
        if self._puts is None:
            self._puts = [_put(field) for field in self._descriptor.fields]
        data: dict[str, Any] = {}
        for put in self._puts:
            put(message, data)
        return data


def _writer_of(descriptor: Descriptor) -> _Write:
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    if descriptor.full_name in WRAPPERS:
        return _wrapper_writer(descriptor)
    plan = _plans.get(descriptor)
    if plan is None:
        plan = _plans[descriptor] = _Plan(descriptor)
    return plan.write


def _wrapper_writer(descriptor: Descriptor) -> _Write:
    write = writer(descriptor.fields_by_name["value"])
    if write is None:
        return lambda message: message.value
    return lambda message: write(message.value)


def _put(field: FieldDescriptor) -> _Put:
    name, key = field.name, field.json_name
    if field.is_repeated:
        entry = map_entry(field)
        return _put_list(field) if entry is None else _put_map(field, entry)
    write = _writer_of(field.message_type) if field.message_type else writer(field)
    if field.containing_oneof is not None:  # `optional` is a oneof of one

        def put_optional(message: Any, data: dict[str, Any]) -> None:
            if message.HasField(name):
                value = getattr(message, name)
                data[key] = value if write is None else write(value)

        return put_optional
    if write is None:

        def put_plain(message: Any, data: dict[str, Any]) -> None:
            data[key] = getattr(message, name)

        return put_plain
    written = write
    if field.message_type:

        def put_message(message: Any, data: dict[str, Any]) -> None:
            data[key] = written(getattr(message, name)) if message.HasField(name) else None

        return put_message

    def put_scalar(message: Any, data: dict[str, Any]) -> None:
        data[key] = written(getattr(message, name))

    return put_scalar


def _put_list(field: FieldDescriptor) -> _Put:
    name, key = field.name, field.json_name
    write = _writer_of(field.message_type) if field.message_type else writer(field)

    def put(message: Any, data: dict[str, Any]) -> None:
        values = getattr(message, name)
        data[key] = list(values) if write is None else [write(value) for value in values]

    return put


def _put_map(field: FieldDescriptor, entry: Descriptor) -> _Put:
    name, key = field.name, field.json_name
    item = entry.fields_by_name["value"]
    write = _writer_of(item.message_type) if item.message_type else writer(item)

    def put(message: Any, data: dict[str, Any]) -> None:
        entries = getattr(message, name)
        data[key] = {
            _key_text(at): entries[at] if write is None else write(entries[at])
            for at in sorted(entries)
        }

    return put


def _key_text(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


_WELL_KNOWN: Final[dict[str, _Write]] = {
    "google.protobuf.Timestamp": write_time,
    "google.protobuf.Duration": write_duration,
    "google.protobuf.Struct": partial(to_plain, number=write_double),
    "google.protobuf.ListValue": partial(list_to_plain, number=write_double),
    "google.protobuf.Value": partial(value_to_plain, number=write_double),
}
