"""Free-form objects: protobuf's Struct and plain Python data, whole numbers staying whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

_PLAIN_LIMIT = 1e21
"""Larger whole numbers are written with an exponent."""


def whole_as_int(number: float) -> int | float:
    """Give a whole number back as int, so that it prints without fraction."""
    if -_PLAIN_LIMIT < number < _PLAIN_LIMIT and number == (whole := int(number)):
        return whole if whole or math.copysign(1, number) > 0 else number
    return number


def to_plain(struct: Struct, *, number: Callable[[float], Any] = whole_as_int) -> dict[str, Any]:
    """Turn *struct* into plain data, its keys in order (a Struct has none).

    Args:
        number: Turns a number, always a double, into what is wanted for it.
    """
    fields = struct.fields
    return {key: value_to_plain(fields[key], number=number) for key in sorted(fields)}


def list_to_plain(values: ListValue, *, number: Callable[[float], Any] = whole_as_int) -> list[Any]:
    """Turn *values* into a plain list, as `to_plain`."""
    return [value_to_plain(value, number=number) for value in values.values]


def value_to_plain(value: Value, *, number: Callable[[float], Any] = whole_as_int) -> Any:
    """Turn any free-form value into plain data; a value that was never set is None."""
    match value.WhichOneof("kind"):
        case "number_value":
            return number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return to_plain(value.struct_value, number=number)
        case "list_value":
            return list_to_plain(value.list_value, number=number)
        case _:
            return None


def to_struct(data: Mapping[str, Any], into: Struct | None = None) -> Struct:
    """Turn plain data into a Struct (*into* if given).

    Raises:
        TypeError: Something in it is none of None, bool, int, float, str, mapping, sequence.
    """
    struct = Struct() if into is None else into
    for key, item in data.items():
        set_value(struct.fields[key], item)
    return struct


def set_value(value: Value, item: Any) -> None:
    """Make *value* hold the plain *item*; raises as `to_struct`."""
    match item:
        case None:
            value.null_value = NULL_VALUE
        case bool():
            value.bool_value = item
        case int() | float():
            value.number_value = item
        case str():
            value.string_value = item
        case _ if _is_mapping(item):
            value.struct_value.SetInParent()
            to_struct(item, value.struct_value)
        case _ if _is_list(item):
            value.list_value.SetInParent()
            for element in item:
                set_value(value.list_value.values.add(), element)
        case _:
            raise TypeError(f"{type(item).__name__} has no place in a free-form object")


def _is_mapping(item: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(item, Mapping)


def _is_list(item: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray))
