"""Bodies of requests: how much, how long, and in which notation."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from aiohttp import web

from shipway_launcher.api.yamltext import load_yaml
from shipway_launcher.errors import TooLarge, TooSlow, WrongRequest

BODY_LIMIT_MIB = web.AppKey("body_limit_mib", int)
BODY_TIMEOUT_S = web.AppKey("body_timeout_s", float)


async def read_body(request: web.Request) -> bytes:
    """Read the body.

    Raises:
        TooLarge: It is over the limit.
        TooSlow: It did not arrive in time.
    """
    limit = request.app[BODY_LIMIT_MIB]
    if (request.content_length or 0) > limit << 20:
        raise TooLarge(
            f"the body has {request.content_length} bytes; the launcher takes {limit} MiB"
            " (limits.body_mib of its settings)"
        )
    timeout_s = request.app[BODY_TIMEOUT_S]
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise TooSlow(
            f"the body did not arrive within {timeout_s:g} s (limits.body_timeout_s)"
        ) from None


async def read_json(request: web.Request) -> bytes:
    """Read the body as JSON text, also where it was sent as YAML.

    Raises:
        LauncherError: It cannot be had, or it is YAML and cannot be read.
    """
    body = await read_body(request)
    if not _is_yaml(request):
        return body
    return await asyncio.to_thread(lambda: json.dumps(load_yaml(body)).encode())


async def read_data(request: web.Request) -> Any:
    """Read the body and parse it.

    Raises:
        LauncherError: It cannot be had or read.
    """
    body = await read_body(request)
    if _is_yaml(request):
        return await asyncio.to_thread(load_yaml, body)
    try:
        return json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise WrongRequest(f"the body is not JSON: {error}") from error


def _is_yaml(request: web.Request) -> bool:
    return request.content_type.rpartition("/")[2].split("+")[-1] in ("yaml", "x-yaml")


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number
