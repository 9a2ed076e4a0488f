"""The API's description, and whether answers are as it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import yaml

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


def load_description() -> dict[str, Any]:
    """Return the document as the launcher serves it."""
    text = (files("shipway_launcher.api") / "openapi.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return method and path of each operation."""
    for path, item in document["paths"].items():
        for method in item:
            if method != "parameters":
                yield method, path


def resolve(document: Mapping[str, Any], node: Any) -> Any:
    """Follow a reference, if it is one."""
    while isinstance(node, Mapping) and "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def faults(document: Mapping[str, Any], schema: Any, value: Any, where: str = "") -> list[str]:
    """Say what in *value* is not as *schema* says; a member that it does not know is a fault."""
    schema = resolve(document, schema)
    if value is None:
        return [] if schema.get("nullable") else [f"{where} is null"]
    kind = schema.get("type", "object")
    if not isinstance(value, _TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        return [f"{where} is no {kind}: {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    if schema.get("format") == "date-time" and not re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value
    ):
        return [f"{where}: {value!r} is no time"]
    found: list[str] = []
    if kind == "array":
        for index, item in enumerate(value):
            found += faults(document, schema["items"], item, f"{where}[{index}]")
    if kind == "object":
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", not known)
        found += [
            f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in value
        ]
        for key, item in value.items():
            if key in known:
                found += faults(document, known[key], item, f"{where}.{key}")
            elif rest is False:
                found.append(f"{where}.{key} is not described")
            elif rest is not True:
                found += faults(document, rest, item, f"{where}.{key}")
    return found
