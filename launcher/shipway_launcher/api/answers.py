"""Answers in the notation that the caller wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from shipway_launcher.api.yamltext import dump_yaml

_JSON, _YAML = "application/json", "application/yaml"
_KINDS = {
    _YAML: _YAML,
    "application/x-yaml": _YAML,
    "text/yaml": _YAML,
    _JSON: _JSON,
    "text/json": _JSON,
    "application/*": _JSON,
    "*/*": _JSON,
}


async def answer(
    request: web.Request, data: Any, *, status: int = 200, is_long: bool = False
) -> web.Response:
    """Write *data* as JSON, or as YAML for who asks for that.

    Args:
        request: Says what it wants.
        data: What could be JSON.
        status: Of the answer.
        is_long: Whether writing it takes a while, for which others must not wait.
    """
    if wants_yaml(request):
        body = await asyncio.to_thread(dump_yaml, data)
        return web.Response(body=body, status=status, content_type=_YAML)
    body = await asyncio.to_thread(_dump_json, data) if is_long else _dump_json(data)
    return web.Response(body=body, status=status, content_type=_JSON)


def _dump_json(data: Any) -> bytes:
    return json.dumps(data).encode()


def wants_yaml(request: web.Request) -> bool:
    """Say whether the caller prefers YAML; who prefers neither gets JSON."""
    best, kind = 0.0, _JSON
    for part in ",".join(request.headers.getall("Accept", [])).split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                weight = _weight(parameter[2:])
        if name in _KINDS and weight > best:
            best, kind = weight, _KINDS[name]
    return kind == _YAML


def _weight(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
