"""From a verb and a path to the RPC that is meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from shipway_master.errors import InvalidArgument
from shipway_master.rpc.methods import Method


@dataclass(frozen=True, slots=True)
class Match:
    """A method, and the text of its path parameters by (dotted) field name."""

    method: Method
    parameters: dict[str, str]


@dataclass(slots=True)
class _Node:
    fixed: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    parameter: _Node | None = None
    ends: dict[str, tuple[Method, tuple[str, ...]]] = field(
        default_factory=dict[str, tuple[Method, tuple[str, ...]]]
    )
    """By verb: the method whose path ends here, and the names of the parameters on the way."""


class Routes:
    """All paths as one tree; at each step a fixed segment wins over a parameter."""

    def __init__(self, methods: Iterable[Method]) -> None:
        self._root = _Node()
        for method in methods:
            self._add(method)

    def find(self, verb: str, path: str) -> Match | None:
        """Find the method for *verb* and the still encoded *path*; one slash at its end is ignored.

        Raises:
            InvalidArgument: A path parameter is not UTF-8.
        """
        segments = path.removeprefix("/").removesuffix("/").split("/")
        found = _walk(self._root, segments, 0, verb, ())
        if found is None:
            return None
        (method, names), values = found
        return Match(method, {name: _decode(v) for name, v in zip(names, values, strict=True)})

    def _add(self, method: Method) -> None:
        node, names = self._root, list[str]()
        for segment in method.path.removeprefix("/").split("/"):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.ends[method.verb] = (method, tuple(names))


def _walk(
    node: _Node, segments: list[str], at: int, verb: str, values: tuple[str, ...]
) -> tuple[tuple[Method, tuple[str, ...]], tuple[str, ...]] | None:
    if at == len(segments):
        end = node.ends.get(verb)
        return None if end is None else (end, values)
    segment = segments[at]
    fixed = node.fixed.get(segment)
    if fixed is not None:
        found = _walk(fixed, segments, at + 1, verb, values)
        if found is not None:
            return found
    if node.parameter is not None and segment:
        return _walk(node.parameter, segments, at + 1, verb, (*values, segment))
    return None


def _decode(segment: str) -> str:
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"path segment {segment!r} is not UTF-8") from error
