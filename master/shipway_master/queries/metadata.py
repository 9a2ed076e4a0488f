"""What runs may keep as metadata: nested objects of values that can be searched for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from shipway_master.errors import InvalidArgument

_MAX_DEPTH: Final = 10
_MAX_KEY: Final = 50
_MAX_TEXT: Final = 5000
_MAX_ELEMENTS: Final = 100
_MAX_VALUES: Final = 1000
_FORBIDDEN = re.compile(r'[$.\[\]"]')
"""Characters by which paths are written."""


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for metadata that are empty, or that cannot be searched."""
    if not metadata:
        raise InvalidArgument("metadata is empty")
    for count, _ in enumerate(_values(metadata, "metadata", 0), 1):
        if count > _MAX_VALUES:
            raise InvalidArgument(f"metadata: more than {_MAX_VALUES} values")


def _values(value: Any, place: str, depth: int) -> Iterator[object]:
    """Walk over all values that are neither object nor list, checking on the way."""
    if depth > _MAX_DEPTH:
        raise InvalidArgument(f"{place}: more than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            _check_key(key, place)
            yield from _values(item, f"{place}.{key}", depth + 1)
    elif isinstance(value, list):
        items = cast("Sequence[Any]", value)
        if len(items) > _MAX_ELEMENTS:
            raise InvalidArgument(f"{place}: more than {_MAX_ELEMENTS} elements")
        for number, item in enumerate(items):
            yield from _values(item, f"{place}[{number}]", depth + 1)
    else:
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise InvalidArgument(f"{place}: longer than {_MAX_TEXT} characters")
        yield value


def _check_key(key: str, place: str) -> None:
    if len(key) > _MAX_KEY:
        raise InvalidArgument(f"{place}: a key is longer than {_MAX_KEY} characters: {key[:80]!r}")
    if not key or _FORBIDDEN.search(key):
        problem = 'a key is empty or has one of $ . [ ] " in it'
        raise InvalidArgument(f"{place}: {problem}: {key!r}")
