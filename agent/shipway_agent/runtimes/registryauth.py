"""Which credentials to show a registry: the task's, or those of `docker login` on this host."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shipway_agent.errors import PullFailed
from shipway_agent.runtimes.environment import client_environment
from shipway_agent.runtimes.imagenames import HUB, ImageName, registry_domain
from shipway_agent.runtimes.spec import Event, EventKind, OnEvent, RegistryAuth

_HELPER_LIMIT_S = 30.0
_hub_key = "https://index.docker.io/v1/"


async def find_registry_auth(
    image: ImageName,
    given: RegistryAuth | None,
    environ: Mapping[str, str],
    on_event: OnEvent,
) -> RegistryAuth | None:
    """Choose the credentials for *image*; None means to come without.

    Args:
        image: What is to be fetched.
        given: What the task brought; used if it is for that registry.
        environ: The agent's environment; DOCKER_CONFIG and HOME say where `docker login` writes.
        on_event: Told which were chosen, and why the task's own were not.

    Raises:
        PullFailed: A credential helper or the file cannot be used.
    """
    if given is not None and _fits(given, image, on_event):
        return _split(given)
    path = _config_path(environ)
    config = await asyncio.to_thread(_load_config, path) if path else {}
    helper = config.get("credHelpers", {}).get(image.domain)
    if helper:
        on_event(
            _info(
                f"domain '{image.domain}' found in 'credHelpers' config, using credentials helper"
            )
        )
        return await _ask_helper(helper, image.domain, environ)
    if found := _from_file(config.get("auths", {}), image.domain):
        on_event(_info(f"domain '{image.domain}' found in 'auths' {path}"))
        return found
    if store := config.get("credsStore"):
        return await _ask_helper(store, image.domain, environ)
    return None


def registry_header(auth: RegistryAuth | None) -> str:
    """Return the value of X-Registry-Auth."""
    fields: dict[str, str] = {}
    if auth is not None:
        fields = {
            "username": auth.username,
            "password": auth.password,
            "email": auth.email,
            "serveraddress": auth.server_address,
            "identitytoken": auth.identity_token,
            "registrytoken": auth.registry_token,
        }
    text = json.dumps({name: value for name, value in fields.items() if value})
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def auth_file(auth: RegistryAuth, image: ImageName) -> bytes:
    """Return the credentials as the file that Podman takes by `--authfile`."""
    if auth.identity_token:
        entry = {"identitytoken": auth.identity_token}
    else:
        pair = f"{auth.username}:{auth.password}".encode()
        entry = {"auth": base64.b64encode(pair).decode("ascii")}
    return json.dumps({"auths": {image.domain: entry}}).encode("ascii")


def _fits(given: RegistryAuth, image: ImageName, on_event: OnEvent) -> bool:
    if not given.server_address:
        on_event(
            _warning(
                "setting registry_auth without registry_auth.serveraddress is deprecated and the"
                " latter will soon be required"
            )
        )
        return True
    if registry_domain(given.server_address) == image.domain:
        return True
    on_event(
        _warning(
            "not using expconfig registry_auth since expconf registry_auth.serverAddress"
            f" {given.server_address} did not match the image serverAddress {image.domain}"
        )
    )
    return False


def _split(auth: RegistryAuth) -> RegistryAuth:
    """Take user and password out of the combined field, where they are only there."""
    if auth.username or auth.password or not auth.auth:
        return auth
    username, password = _decode_pair(auth.auth, "registry_auth.auth")
    return replace(auth, username=username, password=password, auth="")


def _decode_pair(text: str, where: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon, username, password = "", "", ""
    if not colon:
        raise PullFailed(
            f"error encoding docker credentials: {where} is no base64 of user:password"
        )
    return username, password.rstrip("\0")


def _config_path(environ: Mapping[str, str]) -> Path | None:
    if folder := environ.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    home = environ.get("HOME")
    return Path(home) / ".docker" / "config.json" if home else None


def _load_config(path: Path) -> dict[str, Any]:
    try:
        loaded: Any = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise PullFailed(f"could not get docker authentication: {path}: {error}") from error
    if not isinstance(loaded, dict):
        raise PullFailed(f"could not get docker authentication: {path} is no JSON object")
    return loaded  # pyright: ignore[reportUnknownVariableType]


def _from_file(entries: Mapping[str, Mapping[str, str]], domain: str) -> RegistryAuth | None:
    for key, entry in entries.items():
        if registry_domain(key) != domain:
            continue
        if token := entry.get("identitytoken"):
            return RegistryAuth(identity_token=token, server_address=key)
        if pair := entry.get("auth"):
            username, password = _decode_pair(pair, f"the entry of {key}")
            return RegistryAuth(username=username, password=password, server_address=key)
    return None


async def _ask_helper(name: str, domain: str, environ: Mapping[str, str]) -> RegistryAuth | None:
    """Ask the program docker-credential-NAME."""
    program = f"docker-credential-{os.path.basename(name)}"
    server = _hub_key if domain == HUB else domain
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            env=client_environment(environ),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise PullFailed(f"could not get docker authentication: {program}: {error}") from error
    try:
        async with asyncio.timeout(_HELPER_LIMIT_S):
            stdout, stderr = await process.communicate(server.encode())
    except TimeoutError as error:
        raise PullFailed(
            f"could not get docker authentication: {program} gave no answer in {_HELPER_LIMIT_S} s"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if b"credentials not found" in stdout + stderr:
        return None
    if process.returncode != 0:
        words = (stderr or stdout).decode(errors="replace").strip()[:200]
        raise PullFailed(f"could not get docker authentication: {program}: {words}")
    return _read_helper(stdout, server, lambda words: PullFailed(f"{program}: {words}"))


def _read_helper(answer: bytes, server: str, failure: Callable[[str], PullFailed]) -> RegistryAuth:
    try:
        data: dict[str, str] = json.loads(answer)
        username, secret = data["Username"], data["Secret"]
    except (ValueError, KeyError, TypeError) as error:
        raise failure("its answer has no Username and Secret") from error
    if username == "<token>":
        return RegistryAuth(identity_token=secret, server_address=server)
    return RegistryAuth(username=username, password=secret, server_address=server)


def _info(text: str) -> Event:
    return Event(kind=EventKind.INFO, text=text)


def _warning(text: str) -> Event:
    return Event(kind=EventKind.WARNING, text=text)
