"""From JSON data to a message, by a plan that is made once for each kind of message."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeGuard

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from shipway_master.errors import InvalidArgument
from shipway_master.gateway.scalars import (
    WRAPPERS,
    WrongValue,
    map_entry,
    read_duration,
    read_time,
    reader,
)
from shipway_master.structs import set_value

_Fill = Callable[[Any, Any], None]
"""Puts JSON data into a message."""
_Set = Callable[[Any, Any], None]
"""Puts JSON data into one field of a message."""

_DEPTH_LIMIT = 100
_plans: Final[dict[Descriptor, _Plan]] = {}


def parse_json(body: bytes) -> Any:
    """Read JSON text; an empty body is None.

    Raises:
        InvalidArgument: It is no JSON, or nested too deeply.
    """
    if not body.strip():
        return None
    try:
        data = _decoder.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"the body is no JSON: {error}") from error
    if _is_deeper(data, _DEPTH_LIMIT):
        raise InvalidArgument(f"the body is nested more than {_DEPTH_LIMIT} levels deep")
    return data


def fill(message: Message, data: Any) -> None:
    """Put JSON *data* into *message*; None leaves it as it is.

    Raises:
        InvalidArgument: A value has the wrong type; the text names its place.
    """
    _told(lambda: _fill(message, data))


def fill_field(message: Message, name: str, data: Any) -> None:
    """Put JSON *data* into the field *name* of *message*; raises as `fill`."""
    _told(lambda: _set(message, name, data))


def _told(do: Callable[[], None]) -> None:
    try:
        do()
    except WrongValue as error:
        raise InvalidArgument(str(error)) from error


def _fill(message: Any, data: Any) -> None:
    if data is not None:
        _filler_of(message.DESCRIPTOR)(message, data)


def _set(message: Any, name: str, data: Any) -> None:
    if data is not None:
        _plan_of(message.DESCRIPTOR).set(message, name, data)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_decoder: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def _is_deeper(data: Any, limit: int) -> bool:
    level: list[Any] = [data]
    for _ in range(limit + 1):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return False
    return True


def _parts(data: Any) -> list[Any]:
    if _is_object(data):
        return [part for part in data.values() if isinstance(part, (dict, list))]
    if _is_list(data):
        return [part for part in data if isinstance(part, (dict, list))]
    return []


def _is_object(data: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(data, dict)


def _is_list(data: object) -> TypeGuard[list[Any]]:
    return isinstance(data, list)


def _object(data: object) -> dict[str, Any]:
    if not _is_object(data):
        raise WrongValue("an object is expected")
    return data


def _list(data: object) -> list[Any]:
    if not _is_list(data):
        raise WrongValue("a list is expected")
    return data


class _Plan:
    """How to fill one kind of message; its fields are looked at when it is first used."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._setters: dict[str, _Set] = {}

    def fill(self, message: Any, data: Any) -> None:
        for name, value in _object(data).items():
            if value is not None:
                self.set(message, name, value)

    def set(self, message: Any, name: str, value: Any) -> None:
        if not self._setters:
            self._setters = _setters(self._descriptor)
        setter = self._setters.get(name)
        if setter is None:
            return  # a field that we do not know is no mistake
        try:
            setter(message, value)
        except WrongValue as error:
            raise error.inside(name) from None
        except (UnicodeEncodeError, OverflowError) as error:
            raise WrongValue(f"cannot be kept: {error}").inside(name) from error


def _setters(descriptor: Descriptor) -> dict[str, _Set]:
    setters: dict[str, _Set] = {}
    for field in descriptor.fields:
        setters[field.name] = setters[field.json_name] = _setter(field)
    return setters


def _plan_of(descriptor: Descriptor) -> _Plan:
    plan = _plans.get(descriptor)
    if plan is None:
        plan = _plans[descriptor] = _Plan(descriptor)
    return plan


def _filler_of(descriptor: Descriptor) -> _Fill:
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    if descriptor.full_name in WRAPPERS:
        read = reader(descriptor.fields_by_name["value"])

        def fill_wrapper(message: Any, data: Any) -> None:
            message.value = read(data)

        return fill_wrapper
    return _plan_of(descriptor).fill


def _setter(field: FieldDescriptor) -> _Set:
    name = field.name
    if field.is_repeated:
        entry = map_entry(field)
        return _list_setter(field) if entry is None else _map_setter(field, entry)
    if field.message_type is None:
        read = reader(field)

        def set_scalar(message: Any, value: Any) -> None:
            setattr(message, name, read(value))

        return set_scalar
    fill_message = _filler_of(field.message_type)

    def set_message(message: Any, value: Any) -> None:
        part = getattr(message, name)
        part.SetInParent()  # an empty object is not the same as none
        fill_message(part, value)

    return set_message


def _list_setter(field: FieldDescriptor) -> _Set:
    name = field.name
    read = None if field.message_type else reader(field)
    fill_message = _filler_of(field.message_type) if field.message_type else None

    def set_list(message: Any, value: Any) -> None:
        target = getattr(message, name)
        del target[:]
        for at, item in enumerate(_list(value)):
            try:
                if read is not None:
                    target.append(read(item))
                elif fill_message is not None:
                    fill_message(target.add(), item)
            except WrongValue as error:
                raise error.inside(f"[{at}]") from None

    return set_list


def _map_setter(field: FieldDescriptor, entry: Descriptor) -> _Set:
    name = field.name
    item = entry.fields_by_name["value"]
    read_key = reader(entry.fields_by_name["key"])
    read = None if item.message_type else reader(item)
    fill_message = _filler_of(item.message_type) if item.message_type else None

    def set_map(message: Any, value: Any) -> None:
        target = getattr(message, name)
        for key, part in _object(value).items():
            try:
                if read is not None:
                    target[read_key(key)] = read(part)
                elif fill_message is not None:
                    fill_message(target[read_key(key)], part)
            except WrongValue as error:
                raise error.inside(f"[{key}]") from None

    return set_map


def _fill_struct(message: Any, data: Any) -> None:
    for key, value in _object(data).items():
        set_value(message.fields[key], value)


def _fill_list_value(message: Any, data: Any) -> None:
    for value in _list(data):
        set_value(message.values.add(), value)


def _fill_field_mask(message: Any, data: Any) -> None:
    """Take `{"paths": […]}`, which the CLI sends, and the text of proto3 JSON."""
    if isinstance(data, str):
        message.paths.extend(path for path in data.split(",") if path)
        return
    for path in _list(_object(data).get("paths") or []):
        if not isinstance(path, str):
            raise WrongValue("a list of field paths is expected")
        message.paths.append(path)


_WELL_KNOWN: Final[dict[str, _Fill]] = {
    "google.protobuf.Timestamp": lambda message, data: message.CopyFrom(read_time(data)),
    "google.protobuf.Duration": lambda message, data: message.CopyFrom(read_duration(data)),
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.ListValue": _fill_list_value,
    "google.protobuf.Value": set_value,
    "google.protobuf.FieldMask": _fill_field_mask,
}
