"""Reading untyped JSON as the Go peers write it: key case is free, null is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast


class BadMessage(ValueError):
    """The other side sent something that the protocol does not allow."""


def get(fields: Mapping[str, Any], name: str) -> Any:
    """Find a member in any letter case; None when it is absent or null."""
    if name in fields:
        return fields[name]
    lower = name.lower()
    return next((value for key, value in fields.items() if key.lower() == lower), None)


def read_mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Take *value* as an object.

    Raises:
        BadMessage: It is none.
    """
    if not isinstance(value, dict):
        raise BadMessage(f"{name} is not an object")
    return cast("Mapping[str, Any]", value)


def read_sequence(value: Any, name: str) -> Sequence[Any]:
    """Take *value* as a list; null is an empty one.

    Raises:
        BadMessage: It is none.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadMessage(f"{name} is not a list")
    return cast("Sequence[Any]", value)


def read_text(value: Any, name: str) -> str:
    """Take *value* as text; null is the empty text.

    Raises:
        BadMessage: It is none.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadMessage(f"{name} is not a text")
    return value


def read_integer(value: Any, name: str) -> int:
    """Take *value* as an integer; null is zero.

    Raises:
        BadMessage: It is none, or outside of 32 bits.
    """
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**31) <= value < 2**31:
        raise BadMessage(f"{name} is not a 32-bit integer")
    return value
