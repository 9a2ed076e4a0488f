"""YAML as another notation of JSON: the same kinds of values, read without surprises. Pure."""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from shipway_launcher.errors import WrongRequest

_DEEPEST = 64
_STARTS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

# Only libyaml is fast enough for a manifest with a wheel in it.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_JSON_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
}


class _JsonLoader(_Loader):  # type: ignore[misc]  # one of two classes
    """Knows the kinds of JSON only: a date stays the text that it is."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _JSON_TAGS]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {  # noqa: RUF012
        tag: make
        for tag, make in _Loader.yaml_constructors.items()
        if tag is None or tag in _JSON_TAGS
    }


def load_yaml(body: bytes) -> Any:
    """Read YAML that could as well be JSON.

    Aliases are refused, because some kilobytes of them stand for gigabytes; so is nesting that no
    document of the API has.

    Raises:
        WrongRequest: It is no such YAML.
    """
    try:
        _check_shape(body)
        data = yaml.load(body, Loader=_JsonLoader)  # noqa: S506 (it makes plain values only)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise WrongRequest(f"the body is not YAML that can be used: {text[:500]}") from error
    _check_values(data)
    return data


def dump_yaml(data: Any) -> bytes:
    """Write what could be JSON as YAML; bytes that were no text are marked."""
    text: str = yaml.dump(_clean(data), Dumper=_Dumper, sort_keys=False, width=1 << 20)
    return text.encode()


def _check_shape(body: bytes) -> None:
    depth = 0
    for event in yaml.parse(body, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"aliases (*{event.anchor}) are not taken")
        if isinstance(event, _STARTS):
            depth += 1
        elif isinstance(event, _ENDS):
            depth -= 1
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _check_values(data: Any) -> None:
    waiting = [data]
    while waiting:
        match waiting.pop():
            case dict() as mapping:  # pyright: ignore[reportUnknownVariableType]
                for key, value in mapping.items():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
                    if not isinstance(key, str):
                        raise WrongRequest(f"the key {str(key)[:80]} is no text; quote it")  # pyright: ignore[reportUnknownArgumentType]
                    waiting.append(value)
            case list() as items:  # pyright: ignore[reportUnknownVariableType]
                waiting.extend(items)  # pyright: ignore[reportUnknownArgumentType]
            case float() as number if not math.isfinite(number):
                raise WrongRequest(f"{number} is no number of JSON")
            case _:
                pass


def _clean(data: Any) -> Any:
    match data:
        case str():
            return _LONE_SURROGATE.sub("\ufffd", data)
        case dict():
            return {_clean(key): _clean(value) for key, value in data.items()}  # pyright: ignore[reportUnknownVariableType]
        case list():
            return [_clean(item) for item in data]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return data
