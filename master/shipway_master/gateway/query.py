"""Path parameters and query strings: text into fields of a request."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shipway_master.errors import InvalidArgument
from shipway_master.gateway.scalars import (
    WRAPPERS,
    WrongValue,
    map_entry,
    read_duration,
    read_time,
    text_reader,
)

_FIELDS_LIMIT = 10_000


def bind_query(message: Message, query: str, *, taken: Collection[str]) -> None:
    """Put the encoded *query* into *message*; names that it does not know are ignored.

    Args:
        taken: Dotted names of fields that come from the path or the body, and so not from here.

    Raises:
        InvalidArgument: A value cannot be read, or a field that has one value is given two.
    """
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_LIMIT
        )
    except ValueError as error:
        raise InvalidArgument(f"the query cannot be read: {error}") from error
    seen: set[str] = set()
    for name, text in pairs:
        path, key = _split_key(name)
        fields = _resolve(message, path)
        if fields is None:
            continue
        dotted = ".".join(field.name for field in fields)
        if any(dotted == other or dotted.startswith(other + ".") for other in taken):
            continue
        if not fields[-1].is_repeated and dotted in seen:
            raise InvalidArgument(f"{name}: given more than once")
        seen.add(dotted)
        _bind(message, fields, text, name=name, key=key)


def bind_path(message: Message, name: str, text: str) -> None:
    """Put a path parameter into the field with the dotted *name*.

    Raises:
        InvalidArgument: The text cannot be read as that field.
    """
    fields = _resolve(message, name)
    assert fields is not None
    _bind(message, fields, text, name=name, key=None)


def _split_key(name: str) -> tuple[str, str | None]:
    """Split `name[key]`, the form of a map's entry."""
    if name.endswith("]") and "[" in name:
        path, _, key = name[:-1].partition("[")
        return path, key
    return name, None


def _resolve(message: Message, path: str) -> list[FieldDescriptor] | None:
    descriptor: Any = message.DESCRIPTOR
    fields: list[FieldDescriptor] = []
    for part in path.split("."):
        if descriptor is None or (fields and fields[-1].is_repeated):
            return None
        field = _field(descriptor, part)
        if field is None:
            return None
        fields.append(field)
        descriptor = field.message_type
    return fields


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    found = descriptor.fields_by_name.get(name)
    return descriptor.fields_by_camelcase_name.get(name) if found is None else found


def _bind(
    message: Any, fields: list[FieldDescriptor], text: str, *, name: str, key: str | None
) -> None:
    for field in fields[:-1]:
        message = getattr(message, field.name)
    try:
        _put(message, fields[-1], text, key)
    except WrongValue as error:
        raise InvalidArgument(str(error.inside(name))) from error


def _put(message: Any, field: FieldDescriptor, text: str, key: str | None) -> None:
    entry = map_entry(field)
    if entry is not None:
        _put_entry(getattr(message, field.name), entry, text, key)
    elif key is not None:
        raise WrongValue("only a map has keys")
    elif field.is_repeated:
        target = getattr(message, field.name)
        target.append(_read(field, text))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_read(field, text))
    else:
        setattr(message, field.name, _read(field, text))


def _put_entry(target: Any, entry: Descriptor, text: str, key: str | None) -> None:
    if key is None:
        raise WrongValue("a map is given as name[key]=value")
    value = _read(entry.fields_by_name["value"], text)
    if entry.fields_by_name["value"].message_type is not None:
        target[text_reader(entry.fields_by_name["key"])(key)].CopyFrom(value)
    else:
        target[text_reader(entry.fields_by_name["key"])(key)] = value


def _read(field: FieldDescriptor, text: str) -> Any:
    kind = field.message_type
    if kind is None:
        return text_reader(field)(text)
    if kind.full_name in WRAPPERS:
        wrapper: Any = GetMessageClass(kind)
        return wrapper(value=text_reader(kind.fields_by_name["value"])(text))
    if kind.full_name == "google.protobuf.Timestamp":
        return read_time(text)
    if kind.full_name == "google.protobuf.Duration":
        return read_duration(text)
    raise WrongValue("an object cannot be given in a path or query")
