"""Check that a JSON answer has every key that the stock Python client reads without a default.

The client (``determined.common.api.bindings``) reads the `required` keys of the contract with
``obj["key"]``: a missing one ends in KeyError, and ``null`` in place of a list, a message, an enum or a
floating-point number ends in another traceback, whatever the command wanted to know.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from tests.proto.contract import Described, load_recorded


def missing_required(message: str, answer: object) -> list[str]:
    """Name the keys which *answer* lacks, itself and everything inside it.

    Args:
        message: Full name of the message, such as ``determined.api.v1.GetAgentsResponse``.
        answer: The parsed JSON of that message. Of a stream, one ``result``.

    Returns:
        Paths such as ``agents[0].slotStats.brandStats``; with ``: null`` behind it where the key is
        there and the client cannot digest its null, with ``: not an object`` where it should be one.
        An empty list is what a test wants to see.
    """
    return list(_walk(message, answer, ""))


def _walk(message: str, answer: object, path: str) -> Iterator[str]:
    if not isinstance(answer, Mapping):
        yield f"{path or message}: not an object"
        return
    prefix = f"{path}." if path else ""
    described = _recorded_messages()[message]
    required = {to_camel_case(name) for name in described.get("required", [])}
    # A name that is no field (the contract has a few: a oneof, a dropped field) is not read by anyone.
    for field in described["fields"]:
        key = to_camel_case(field["name"])
        if key not in answer:
            if key in required:
                yield prefix + key
        elif answer[key] is None:
            if key in required and _breaks_on_null(field):
                yield f"{prefix}{key}: null"
        else:
            yield from _walk_value(field, answer[key], prefix + key)


def _walk_value(field: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    kind, inner = _split_type(field)
    if inner not in _recorded_messages():
        return
    if kind == "list":
        for index, item in enumerate(value):
            yield from _walk(inner, item, f"{path}[{index}]")
    elif kind == "map":
        for key, item in value.items():
            yield from _walk(inner, item, f"{path}.{key}")
    else:
        yield from _walk(inner, value, path)


def _breaks_on_null(field: Mapping[str, Any]) -> bool:
    kind, inner = _split_type(field)
    return kind != "single" or inner.startswith("determined.") or inner in {"float", "double"}


def _split_type(field: Mapping[str, Any]) -> tuple[str, str]:
    name: str = field["type"]
    if name.startswith("map<"):
        return "map", name.removesuffix(">").partition(", ")[2]
    return ("list" if field.get("repeated") else "single"), name


def to_camel_case(name: str) -> str:
    """Turn a field name of either form into the one that JSON answers have."""
    first, *others = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in others)


@functools.cache
def _recorded_messages() -> Mapping[str, Described]:
    found: dict[str, Described] = {}

    def add(scope: str, messages: list[Described]) -> None:
        for message in messages:
            full_name = f"{scope}.{message['name']}"
            found[full_name] = message
            add(full_name, message.get("messages", []))

    for file in load_recorded().values():
        add(file["package"], file["messages"])
    return found
