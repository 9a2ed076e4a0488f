"""Fetch an image through an engine, with its progress, and its errors not overlooked."""

from __future__ import annotations

import re
from collections.abc import Mapping

import aiohttp

from shipway_agent.errors import (
    ContainerRuntimeError,
    ImageNotFound,
    PullFailed,
    RuntimeRefused,
    SpecUnsupported,
)
from shipway_agent.runtimes.engine import Engine, read_json_lines, status_of
from shipway_agent.runtimes.imagenames import ImageName, parse_image_name
from shipway_agent.runtimes.pullprogress import PullProgress
from shipway_agent.runtimes.registryauth import find_registry_auth, registry_header
from shipway_agent.runtimes.spec import ContainerSpec, Event, EventKind, OnEvent, RegistryAuth

_not_found = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|access (to the resource is )?denied"
    r"|unauthorized|no such image|requested access",
    re.IGNORECASE,
)


async def pull_image(
    engine: Engine, spec: ContainerSpec, environ: Mapping[str, str], on_event: OnEvent
) -> None:
    """Make the image of *spec* available; see `Runtime.pull`."""
    if not spec.image:
        raise SpecUnsupported("the container names no image")
    name = parse_image_name(spec.image)
    is_here = await has_image(engine, spec.image)
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
        await _pull(engine, name, auth, on_event)
    except RuntimeRefused as error:
        raise pull_error(name, str(error)) from error
    except aiohttp.ClientError as error:
        raise PullFailed(f"error pulling image: {name}: {engine.address}: {error}") from error
    if not await has_image(engine, spec.image):
        raise PullFailed(f"error pulling image: {name}: the engine says done, but it is not there")


async def has_image(engine: Engine, text: str) -> bool:
    """Say whether the engine has the image already."""
    try:
        await engine.call("GET", f"images/{text}/json")
    except ContainerRuntimeError as error:
        if status_of(error) == 404:
            return False
        raise
    return True


def pull_error(name: ImageName, words: str) -> ImageNotFound | PullFailed:
    """Return the error that an engine's or a registry's words mean."""
    # A missing blob is a damaged image, not a missing one.
    is_missing = _not_found.search(words) and "blob" not in words
    kind = ImageNotFound if is_missing else PullFailed
    return kind(f"error pulling image: {name}: {words}")


async def _pull(
    engine: Engine, name: ImageName, auth: RegistryAuth | None, on_event: OnEvent
) -> None:
    progress = PullProgress()
    has_layers = False
    params = {"fromImage": name.repository, "tag": name.version}
    headers = {"X-Registry-Auth": registry_header(auth)}
    async with engine.stream("POST", "images/create", params=params, headers=headers) as response:
        async for message in read_json_lines(response):
            if words := _error_in(message):
                raise pull_error(name, words)
            if event := progress.update(message):
                has_layers = True
                on_event(event)
    if has_layers:
        on_event(progress.event())


def _error_in(message: Mapping[str, object]) -> str | None:
    """Return the error that a message of the stream is; its HTTP status was fine long before."""
    detail = message.get("errorDetail")
    if isinstance(detail, dict) and detail.get("message"):  # pyright: ignore[reportUnknownMemberType]
        return str(detail["message"])  # pyright: ignore[reportUnknownArgumentType]
    error = message.get("error")
    return str(error) if error else None
