"""Bodies of requests: how much, how long, how packed, and in which notation."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from typing import Any

from aiohttp import web

from shipway_launcher.api.yamltext import load_yaml
from shipway_launcher.errors import TooLarge, TooSlow, WrongRequest

BODY_LIMIT_MIB = web.AppKey("body_limit_mib", int)
BODY_TIMEOUT_S = web.AppKey("body_timeout_s", float)

_PACKINGS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


async def read_body(request: web.Request) -> bytes:
    """Read the body and unpack it.

    Raises:
        TooLarge: It is over the limit, packed or unpacked.
        TooSlow: It did not arrive in time.
        WrongRequest: It cannot be unpacked.
    """
    body = await _receive(request)
    packing = request.headers.get("Content-Encoding", "").strip().lower()
    if packing in ("", "identity"):
        return body
    return await asyncio.to_thread(_unpack, body, packing, request.app[BODY_LIMIT_MIB])


async def _receive(request: web.Request) -> bytes:
    limit_mib, timeout_s = request.app[BODY_LIMIT_MIB], request.app[BODY_TIMEOUT_S]
    if (request.content_length or 0) > limit_mib << 20:
        raise _too_large(limit_mib)
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise TooSlow(
            f"the body did not arrive within {timeout_s:g} s (limits.body_timeout_s)"
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limit_mib) from None
    except web.RequestPayloadError as error:
        raise WrongRequest(f"the body cannot be read: {error}") from error


def _unpack(body: bytes, packing: str, limit_mib: int) -> bytes:
    """Unpack a body. The web server would do so, but it waits for ever for what is no deflate, and
    takes half a gzip for all of it.
    """
    if packing not in _PACKINGS:
        known = ", ".join(_PACKINGS)
        raise WrongRequest(f"Content-Encoding: {packing[:40]!r} is not taken; {known} are")
    unpacker = zlib.decompressobj(_PACKINGS[packing])
    try:
        data = unpacker.decompress(body, (limit_mib << 20) + 1)
    except zlib.error as error:
        raise WrongRequest(f"the body is no {packing}: {error}") from error
    if len(data) > limit_mib << 20:
        raise _too_large(limit_mib)
    if not unpacker.eof or unpacker.unused_data:
        raise WrongRequest(f"the body is no {packing}: it does not end where the body ends")
    return data


def _too_large(limit_mib: int) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit_mib} MiB (limits.body_mib of the launcher's settings)"
    )


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
