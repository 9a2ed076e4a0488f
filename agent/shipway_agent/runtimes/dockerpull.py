"""Fetch an image through an engine, with its progress, and its errors not overlooked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import aiohttp

from shipway_agent.errors import (
    ContainerRuntimeError,
    ImageNotFound,
    PullFailed,
    RuntimeRefused,
    RuntimeUnavailable,
)
from shipway_agent.runtimes.engine import Engine, read_json_lines, status_of
from shipway_agent.runtimes.imagenames import ImageName, parse_image_name
from shipway_agent.runtimes.patience import outlast
from shipway_agent.runtimes.pullprogress import PullProgress
from shipway_agent.runtimes.registryauth import find_registry_auth, hide_secrets, registry_header
from shipway_agent.runtimes.spec import ContainerSpec, Event, EventKind, OnEvent, RegistryAuth

_STALL_LIMIT_S = 1800.0
"""How long an engine may say nothing; unpacking a big layer is silent with some."""

_not_found = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|access (to the resource is )?denied"
    r"|unauthorized|no such image|requested access|no matching manifest|no image found in",
    re.IGNORECASE,
)
_bad_certificate = re.compile(r"x509|certificate", re.IGNORECASE)


async def pull_image(
    engine: Engine, spec: ContainerSpec, environ: Mapping[str, str], on_event: OnEvent
) -> None:
    """Make the image of *spec* available; see `Runtime.pull`."""
    image = spec.require_image()
    name = parse_image_name(image)
    is_here = await outlast(lambda: find_image(engine, image)) is not None
    if is_here and not spec.force_pull:
        text = f"image already found, skipping pull phase: {name}"
        on_event(Event(kind=EventKind.PULL_SKIPPED, text=text))
        return
    if is_here:
        text = f"image present, but force_pull_image is set; checking for updates: {name}"
    else:
        text = f"image not found, pulling image: {name}"
    auth = await find_registry_auth(name, spec.registry_auth, environ, on_event)
    on_event(Event(kind=EventKind.PULL_BEGAN, text=text))
    try:
        # Once more is harmless: the engine keeps the layers that it has.
        await outlast(lambda: _pull(engine, name, auth, on_event))
    except RuntimeUnavailable as error:
        raise PullFailed(f"error pulling image: {name}: {error}") from error
    if await outlast(lambda: find_image(engine, image)) is None:
        raise PullFailed(f"error pulling image: {name}: the engine says done, but it is not there")


async def find_image(engine: Engine, text: str) -> dict[str, Any] | None:
    """Return what the engine knows of an image, if it has it."""
    try:
        image: dict[str, Any] = await engine.call("GET", f"images/{text}/json")
    except ContainerRuntimeError as error:
        if status_of(error) == 404:
            return None
        raise
    return image


def pull_error(
    name: ImageName | str, words: str, auth: RegistryAuth | None = None
) -> ImageNotFound | PullFailed:
    """Return the error that the words of a registry, or of who asked it, mean.

    Args:
        name: The image, as it is to be told.
        words: What was said.
        auth: What was shown to the registry; should it repeat that, it is left out.
    """
    words = hide_secrets(words, auth)
    # A missing blob is a damaged image, not a missing one.
    is_missing = _not_found.search(words) and "blob" not in words
    kind = ImageNotFound if is_missing else PullFailed
    return kind(f"error pulling image: {name}: {words}")


async def _pull(
    engine: Engine, name: ImageName, auth: RegistryAuth | None, on_event: OnEvent
) -> None:
    """Fetch the image.

    Raises:
        RuntimeUnavailable: The engine went away meanwhile.
    """
    progress = PullProgress()
    params = {"fromImage": name.repository, "tag": name.version}
    # Podman then looks for its user's own log-in.
    is_silent = auth is None and engine.is_podman
    headers = {} if is_silent else {"X-Registry-Auth": registry_header(auth)}
    try:
        async with (
            asyncio.timeout(_STALL_LIMIT_S) as limit,
            engine.stream("POST", "images/create", params=params, headers=headers) as response,
        ):
            async for message in read_json_lines(response):
                limit.reschedule(asyncio.get_running_loop().time() + _STALL_LIMIT_S)
                if words := _error_in(message):
                    raise pull_error(name, words + _remedy(name, words), auth)
                if event := progress.update(message):
                    on_event(event)
    except RuntimeRefused as error:
        raise pull_error(name, f"{error}{_remedy(name, str(error))}", auth) from None
    except TimeoutError as error:
        raise PullFailed(
            f"error pulling image: {name}: the engine told no progress in {_STALL_LIMIT_S:g} s"
        ) from error
    except aiohttp.ClientError as error:
        raise RuntimeUnavailable(
            f"{engine.address}: it went away while pulling: {error}"
        ) from error
    on_event(progress.finish())


def _remedy(name: ImageName, words: str) -> str:
    if not _bad_certificate.search(words):
        return ""
    return f" (the engine must trust the CA: /etc/docker/certs.d/{name.domain}/ca.crt)"


def _error_in(message: Mapping[str, object]) -> str | None:
    """Return the error that a message of the stream is; its HTTP status was fine long before."""
    detail = message.get("errorDetail")
    if isinstance(detail, dict) and detail.get("message"):  # pyright: ignore[reportUnknownMemberType]
        return str(detail["message"])  # pyright: ignore[reportUnknownArgumentType]
    error = message.get("error")
    return str(error) if error else None
