"""YAML that users send, as plain data: what JSON can hold, within limits, and nothing guessed.

Scalars mean what they mean to Determined's master (its library is in the main one of YAML 1.1 with
the numbers of 1.2), which no loader of PyYAML does: it takes `1e-5`, which the stock client writes,
for text. Where readers of YAML differ in silence, the text is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml

from shipway_master.structs import whole_as_int

MAX_BYTES: Final = 1024 * 1024
MAX_NODES: Final = 100_000
"""Values in the data after all aliases are followed."""
MAX_DEPTH: Final = 24
"""Mappings and lists within each other: what protobuf's readers take of a Struct in an answer is
32, of which the answer around it needs some."""

_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS: Final = {
    word: value
    for value, words in ((True, ("true", "yes", "on")), (False, ("false", "no", "off")))
    for lower in words
    for word in (lower, lower.capitalize(), lower.upper())
}
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER: Final = re.compile(
    r"[-+]?(0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)"
)
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9_]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT64: Final = range(-(2**63), 2**64)
_TAG: Final = "tag:yaml.org,2002:"
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "null": type(None),
    "bool": bool,
    "int": int,
    "float": (int, float),
}
_MERGE_KEY: Final = "<<"

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadYaml(ValueError):
    """The text cannot be read as plain data; says where and why."""


def parse_yaml(text: str) -> Any:
    """Read one YAML document; null if there is none.

    Raises:
        BadYaml: It is no YAML, too large or too deep, or holds what JSON cannot, a key twice, or a
            number that readers understand differently.
    """
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        raise BadYaml(f"it is larger than {MAX_BYTES} bytes")
    try:
        return _Composer(yaml.parse(text, Loader=_Loader)).compose()
    except yaml.YAMLError as error:
        raise BadYaml(f"not YAML: {error}") from error


@dataclass(frozen=True, slots=True)
class _Node:
    """A finished value."""

    value: Any
    nodes: int = 1
    """Values in it, itself included."""
    height: int = 0
    """Mappings and lists within each other, itself included."""


@dataclass(slots=True)
class _Open:
    """A mapping or list of which more is to come."""

    value: dict[str, Any] | list[Any]
    anchor: str | None
    nodes: int = 1
    height: int = 1
    key: str | None = None
    """Of a mapping, that whose value comes next."""
    merges: list[dict[str, Any]] | None = None
    """Of a mapping, what comes in by its key `<<`."""

    @property
    def wants_key(self) -> bool:
        return self.key is None and isinstance(self.value, dict)


class _Composer:
    """Builds the data from the parser's events, without a stack of calls as deep as the data."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._open: list[_Open] = []
        self._anchors: dict[str, _Node] = {}
        self._documents: list[Any] = []

    def compose(self) -> Any:
        for event in self._events:
            self._at = event.start_mark
            match event:
                case yaml.DocumentStartEvent() if self._documents:
                    raise self._bad("there is a second document")
                case yaml.ScalarEvent():
                    self._take_scalar(event)
                case yaml.AliasEvent():
                    self._take_alias(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._start(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._end()
                case _:
                    pass
        return self._documents[0] if self._documents else None

    def _bad(self, text: str) -> BadYaml:
        return BadYaml(f"line {self._at.line + 1}, column {self._at.column + 1}: {text}")

    def _check_no_key(self) -> None:
        if self._open and self._open[-1].wants_key:
            raise self._bad("a key must be plain text")

    def _check_depth(self, height: int) -> None:
        if len(self._open) + height > MAX_DEPTH:
            raise self._bad(f"more than {MAX_DEPTH} mappings and lists are within each other")

    def _start(self, event: Any) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            raise self._bad(f"the tag {event.tag[:80]!r} is not known here")
        self._check_no_key()
        self._check_depth(1)
        self._open.append(_Open(value={} if is_mapping else [], anchor=event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        for merged in done.merges or ():
            done.value = {**merged, **cast("dict[str, Any]", done.value)}
        self._add(_Node(done.value, done.nodes, done.height), done.anchor)

    def _take_scalar(self, event: Any) -> None:
        if self._open and self._open[-1].wants_key:
            self._set_key(self._open[-1], event)
        else:
            self._add(_Node(self._read_scalar(event)), event.anchor)

    def _set_key(self, top: _Open, event: Any) -> None:
        """Take a key as it is written: `on` and `7` are names too."""
        key = self._check_text(event.value)
        is_merge = key == _MERGE_KEY and event.implicit[0]
        if key in cast("dict[str, Any]", top.value) or (is_merge and top.merges is not None):
            raise self._bad(f"the key {key[:80]!r} is there twice")
        if is_merge:
            top.merges = []
        top.key = key

    def _take_alias(self, event: Any) -> None:
        self._check_no_key()
        node = self._anchors.get(event.anchor)
        if node is None:
            raise self._bad(f"there is no finished value under the name {event.anchor[:80]!r}")
        self._check_depth(node.height)
        self._add(node, None)

    def _add(self, node: _Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._documents.append(node.value)
            return
        top = self._open[-1]
        top.nodes += node.nodes
        top.height = max(top.height, 1 + node.height)
        if top.nodes > MAX_NODES:
            raise self._bad(f"there are more than {MAX_NODES} values")
        if isinstance(top.value, list):
            top.value.append(node.value)
            return
        key, top.key = cast("str", top.key), None
        if key == _MERGE_KEY and top.merges == []:
            top.merges = self._read_merges(node.value)
        else:
            top.value[key] = node.value

    def _read_merges(self, value: object) -> list[dict[str, Any]]:
        given = cast("list[object]", value) if isinstance(value, list) else [value]
        merges = [cast("dict[str, Any]", one) for one in given if isinstance(one, dict)]
        if not merges or len(merges) < len(given):
            raise self._bad("'<<' wants a mapping or a list of mappings")
        return merges

    def _read_scalar(self, event: Any) -> Any:
        text, tag = self._check_text(event.value), event.tag
        if tag in (None, "!", _TAG + "str"):
            is_plain = tag is None and event.implicit[0]
            return self._resolve(text) if is_plain else text
        value = self._resolve(text)
        kind = _KINDS.get(tag.removeprefix(_TAG))
        if kind is None:
            raise self._bad(f"the tag {tag[:80]!r} is not known here")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._bad(f"{text[:80]!r} does not fit its tag")
        return value

    def _resolve(self, text: str) -> Any:
        """Say what an unquoted scalar means."""
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if _NOT_FINITE.fullmatch(text):
            raise self._bad(f"{text} is no number that JSON has")
        if _LEADING_ZERO.fullmatch(text):
            raise self._bad(
                f"{text[:80]} is a number with base 8 to some readers and with base 10 to others: "
                'write it without the zero, as 0o17, or as text in quotes ("017")'
            )
        if _INTEGER.fullmatch(text):
            number = _parse_integer(text)
            return self._finite(text) if number is None else number
        if _FLOAT.fullmatch(text):
            return self._finite(text)
        return text

    def _finite(self, text: str) -> int | float:
        number = float(text)
        if not math.isfinite(number):
            raise self._bad(f"{text[:80]} is larger than any number of JSON's readers")
        return whole_as_int(number)

    def _check_text(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self._bad("there is half a character (a lone surrogate)") from error
        return text


def _parse_integer(text: str) -> int | None:
    """Read an integer of 64 bits; none if it has more."""
    digits = text.replace("_", "")
    if len(digits) > 70:
        return None
    number = int(digits, 0)
    return number if number in _INT64 else None
