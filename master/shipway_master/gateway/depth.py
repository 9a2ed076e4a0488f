"""How deeply free-form objects may be nested.

Protocol buffers read messages of up to 100 levels, of which one level of a free-form object takes
three. What is stored a few levels too deep could be read by nobody any more, and no list that it is
in either.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from shipway_master.errors import InvalidArgument

FREE_FORM_LEVELS: Final = 30
_FREE_FORM: Final = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")


def require_shallow(message: Message) -> None:
    """Check the free-form objects in a request.

    Raises:
        InvalidArgument: One has more than `FREE_FORM_LEVELS` levels.
    """
    level: list[Any] = list(_find_free_form(message))
    for _ in range(FREE_FORM_LEVELS):
        if not level:
            return
        level = [part for item in level for part in _parts(item)]
    if level:
        raise InvalidArgument(f"an object is nested more than {FREE_FORM_LEVELS} levels deep")


def _find_free_form(message: Message) -> list[Any]:
    found: list[Any] = []
    for field in _fields_to_look_at(message.DESCRIPTOR):
        value: Any = getattr(message, field.name)
        if not field.is_repeated:
            parts = [value] if message.HasField(field.name) else []
        elif field.message_type.GetOptions().map_entry:
            parts = list(value.values())
        else:
            parts = list(value)
        for part in parts:
            found += (
                [part] if isinstance(part, (Struct, Value, ListValue)) else _find_free_form(part)
            )
    return found


def _parts(item: Any) -> list[Any]:
    """What is one level below; a scalar has nothing."""
    if isinstance(item, Struct):
        return [part for value in item.fields.values() for part in _contents(value)]
    if isinstance(item, ListValue):
        return [part for value in item.values for part in _contents(value)]
    return _contents(item)


def _contents(value: Value) -> list[Any]:
    kind = value.WhichOneof("kind")
    return [getattr(value, kind)] if kind in ("struct_value", "list_value") else []


@cache
def _fields_to_look_at(descriptor: Any) -> tuple[Any, ...]:
    """The fields of a message that are free-form objects, or have such somewhere within."""
    return tuple(field for field in descriptor.fields if _leads_to_free_form(field, frozenset()))


def _leads_to_free_form(field: Any, seen: frozenset[str]) -> bool:
    kind = field.message_type
    if kind is None or kind.full_name in seen:
        return False
    if kind.full_name in _FREE_FORM:
        return True
    if kind.GetOptions().map_entry:
        return _leads_to_free_form(kind.fields_by_name["value"], seen)
    return any(_leads_to_free_form(inner, seen | {kind.full_name}) for inner in kind.fields)
