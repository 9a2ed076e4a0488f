"""What requests are made of: what would fit each field, and what fits none."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

_DEPTH_LIMIT: Final = 4
_RAW: Final = "\ufdd0raw:"
"""Begins a text that is written without its quotes: what no value of Python can be written as."""

_WHOLE: Final = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_REAL: Final = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}

NUMBERS: Final[Sequence[Any]] = (
    *(-1, 0, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**40),
    *(0.5, 1e308, -0.0, "7", "-9223372036854775808", "18446744073709551616", " 1", "1_0", "٣"),
    *(float("nan"), float("inf"), "NaN", "-Infinity", f"{_RAW}1e999", f"{_RAW}01", "1e3", "0x10"),
)
TEXTS: Final[Sequence[str]] = (
    *("", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\n", "\r\nX-Evil: 1", "\x1b[2J", "\ufeff"),
    *("../../etc/passwd", "/../..", "%2e%2e%2f", "%00", "..", ".", "a/b", "a%2fb", "%", "%zz"),
    *("' OR 1=1 --", '"; DROP TABLE users; --', "%", "_", "\\", "*", "[", "(?:a+)+$", "(", "{0}"),
    *("null", "true", "[]", "{}", "${HOME}", "$(id)", "<script>", "☃" * 300, "é" * 3, "x" * 70_000),
    *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2020-02-30T00:00:00Z", "1s"),
    *("0000-00-00T00:00:00Z", "-99999999999999s", "9999999999h", "12345678-1234-1234-1234"),
)


def _nested(depth: int, *, of_lists: bool) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value] if of_lists else {"a": value}
    return value


OTHERS: Final[Sequence[Any]] = (
    *(None, True, False, [], {}, [None], [[]], {"": ""}, {"\ud800": "\ud800"}, {"value": 1}),
    *([1, "a", None], {"paths": 5}, {"paths": ["a.b", "\0"]}, _nested(90, of_lists=True)),
    *(_nested(99, of_lists=False), _nested(400, of_lists=True), list(range(40_000))),
)


@dataclass(frozen=True)
class Known:
    """What there is in the master that is asked, so that requests get beyond its front rooms."""

    by_name: Mapping[str, Sequence[Any]]
    """Values of fields, by the fields' names; `Message.field` comes before `field`."""
    always: frozenset[str] = frozenset()
    """Fields that get nothing else: the attacker would lock himself out."""

    def find(self, field: FieldDescriptor) -> Sequence[Any]:
        """What would fit *field*."""
        owner = getattr(field.containing_type, "name", "")
        return self.by_name.get(f"{owner}.{field.name}", self.by_name.get(field.name, ()))


def any_evil(rng: random.Random) -> Any:
    """Choose something that fits next to nowhere."""
    return rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS)))


def make_object(
    descriptor: Any, known: Known, rng: random.Random, *, depth: int = 0
) -> dict[str, Any]:
    """Make JSON data that would fit a message; some fields are left out."""
    made: dict[str, Any] = {}
    share = 0.8 if depth == 0 else 0.5
    for field in descriptor.fields:
        if rng.random() < share or (depth == 0 and known.find(field)):
            name = field.json_name if rng.random() < 0.8 else field.name
            made[name] = make_value(field, known, rng, depth=depth)
    return made


def make_value(field: FieldDescriptor, known: Known, rng: random.Random, *, depth: int = 0) -> Any:
    """Make JSON data that would fit one field."""
    if field.is_repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            return {"a": _make_single(value, known, rng, depth)}
        return [_make_single(field, known, rng, depth) for _ in range(rng.randint(0, 3))]
    return _make_single(field, known, rng, depth)


def _make_single(field: FieldDescriptor, known: Known, rng: random.Random, depth: int) -> Any:
    fitting = known.find(field)
    if fitting and (field.name in known.always or rng.random() < 0.9):
        chosen = rng.choice(fitting)
        return corrupt(chosen, rng) if isinstance(chosen, dict) else chosen
    if field.message_type is not None:
        return _make_message(field.message_type, known, rng, depth)
    if field.enum_type is not None:
        return rng.choice(field.enum_type.values).name
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in _WHOLE:
        return rng.choice((0, 1, 2, 10, -1, 2**31 - 1))
    if field.cpp_type in _REAL:
        return rng.choice((0, 1.5, -2, 1e300 if field.type == FieldDescriptor.TYPE_DOUBLE else 1))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "aGVsbG8="
    return rng.choice(("a", "name", "2024-01-01", "00000000-0000-0000-0000-000000000000"))


def _make_message(descriptor: Any, known: Known, rng: random.Random, depth: int) -> Any:
    match descriptor.full_name:
        case "google.protobuf.Timestamp":
            return "2024-01-01T00:00:00Z"
        case "google.protobuf.Duration":
            return "1s"
        case "google.protobuf.Struct":
            return {"a": 1, "b": [None, True, "c"], "d": {"e": 1.5}}
        case "google.protobuf.Value" | "google.protobuf.ListValue":
            return [1]
        case "google.protobuf.FieldMask":
            return {"paths": ["name", "config"]}
        case name if name.startswith("google.protobuf.") and name.endswith("Value"):
            return _make_single(descriptor.fields_by_name["value"], known, rng, depth)
        case _ if depth >= _DEPTH_LIMIT:
            return {}
        case _:
            return make_object(descriptor, known, rng, depth=depth + 1)


def corrupt(data: Any, rng: random.Random, *, share: float = 0.7) -> Any:
    """Put something that does not fit in place of one part of *data*, most of the time."""
    if rng.random() > share:
        return data
    if isinstance(data, dict) and data and rng.random() < 0.9:
        key = rng.choice(list(data))
        return {**data, key: corrupt(data[key], rng, share=1)}
    if isinstance(data, list) and data and rng.random() < 0.7:
        at = rng.randrange(len(data))
        return [*data[:at], corrupt(data[at], rng, share=1), *data[at + 1 :]]
    return any_evil(rng)


def to_text(data: Any) -> bytes:
    """Write *data* as JSON, or as what looks like it: with NaN, lone surrogates, `1e999`."""
    text = json.dumps(data, ensure_ascii=True)
    marker = json.dumps(_RAW)[1:-1]
    while (start := text.find(f'"{marker}')) >= 0:
        end = text.index('"', start + 1)
        text = text[:start] + text[start + 1 + len(marker) : end] + text[end + 1 :]
    return text.encode()
