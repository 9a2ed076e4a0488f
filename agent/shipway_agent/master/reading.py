"""Reading JSON the way Go does: keys in any letter case, unknown ones ignored, null as absent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

from shipway_agent.errors import UnreadableMessage


class JsonObject:
    """A JSON object whose members are read by name and expected type.

    A member that is missing or null is the type's zero; one of another type raises
    `UnreadableMessage` with the path to it.
    """

    def __init__(self, members: Mapping[str, object], path: str = "") -> None:
        self._members = {key.lower(): value for key, value in members.items()}
        self._path = path

    @classmethod
    def parse(cls, text: str | bytes) -> JsonObject | None:
        """Read a whole document; None if it is `null`."""
        try:
            document: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            start = repr(text[:200])
            raise UnreadableMessage(f"no JSON ({error}); it begins with {start}") from error
        return _as_object(document, "message")

    def path_to(self, key: str) -> str:
        """Name a member for people."""
        return f"{self._path}.{key}" if self._path else key

    def keys(self) -> list[str]:
        """List the members' names in lower case."""
        return list(self._members)

    def text(self, key: str) -> str:
        """Read a string."""
        value = self._members.get(key.lower())
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def integer(self, key: str) -> int:
        """Read a whole number; 9.0 is none."""
        value = self._members.get(key.lower())
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(key, value, "a whole number")
        return value

    def flag(self, key: str) -> bool:
        """Read a truth value."""
        value = self._members.get(key.lower())
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def child(self, key: str) -> JsonObject | None:
        """Read an object; None if there is none."""
        return _as_object(self._members.get(key.lower()), self.path_to(key))

    def section(self, key: str) -> JsonObject:
        """Read an object; an empty one if there is none."""
        return self.child(key) or JsonObject({}, self.path_to(key))

    def objects(self, key: str) -> list[JsonObject] | None:
        """Read a list of objects; None if there is none, null entries left out."""
        value = self._list(key)
        if value is None:
            return None
        entries = (
            _as_object(entry, f"{self.path_to(key)}[{index}]") for index, entry in enumerate(value)
        )
        return [entry for entry in entries if entry is not None]

    def texts(self, key: str) -> list[str] | None:
        """Read a list of strings; None if there is none."""
        value = self._list(key)
        if value is None:
            return None
        if not all(isinstance(entry, str) for entry in value):
            raise self._wrong(key, value, "a list of strings")
        return cast("list[str]", list(value))

    def names(self, key: str) -> list[str]:
        """List the keys of an object as they are spelled."""
        value = self._members.get(key.lower())
        if value is None:
            return []
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return list(cast("dict[str, object]", value))

    def _list(self, key: str) -> Sequence[object] | None:
        value = self._members.get(key.lower())
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        return cast("list[object]", value)

    def _wrong(self, key: str, value: object, wanted: str) -> UnreadableMessage:
        return UnreadableMessage(f"{self.path_to(key)} is {type(value).__name__}, not {wanted}")


def _as_object(value: object, path: str) -> JsonObject | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UnreadableMessage(f"{path} is {type(value).__name__}, not an object")
    return JsonObject(cast("dict[str, object]", value), path if path != "message" else "")
