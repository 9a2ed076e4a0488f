"""Which credentials to show a registry: the task's, or those of `docker login` on this host."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
import pwd
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from shipway_agent.errors import PullFailed
from shipway_agent.runtimes.environment import client_environment
from shipway_agent.runtimes.imagenames import HUB, ImageName, registry_domain
from shipway_agent.runtimes.spec import Event, EventKind, OnEvent, RegistryAuth

_HELPER_LIMIT_S = 30.0
_hub_key = "https://index.docker.io/v1/"

_harmless_words = (
    "no credentials server url",
    "no credentials username",
    "no basic auth credentials",
    "permission denied",
    "not initialized",
    "no such file or directory",
    "executable file not found",
    "connection refused",
    "i/o timeout",
    "expired",
)


async def find_registry_auth(
    image: ImageName,
    given: RegistryAuth | None,
    environ: Mapping[str, str],
    on_event: OnEvent,
    *,
    helper_limit_s: float = _HELPER_LIMIT_S,
) -> RegistryAuth | None:
    """Choose the credentials for *image*; None means to come without.

    Args:
        image: What is to be fetched.
        given: What the task brought; used if it is for that registry.
        environ: The agent's environment; DOCKER_CONFIG and HOME say where `docker login` writes.
        on_event: Told which were chosen, and why the task's own were not.
        helper_limit_s: How long a credential helper may take, in seconds.

    Raises:
        PullFailed: A credential helper or the file cannot be used.
    """
    if given is not None and _fits(given, image, on_event):
        return _split(given)
    path, config = await asyncio.to_thread(_load_config, environ)
    domain = image.domain
    if helper := _of_domain(config.get("credHelpers"), domain):
        on_event(
            _info(f"domain '{domain}' found in 'credHelpers' config, using credentials helper")
        )
        return await _ask_helper(str(helper[1]), domain, environ, helper_limit_s)
    if (entry := _of_domain(config.get("auths"), domain)) and (found := _from_entry(*entry)):
        on_event(_info(f"domain '{domain}' found in 'auths' {path}"))
        return found
    if store := config.get("credsStore"):
        return await _ask_helper(str(store), domain, environ, helper_limit_s)
    return None


def hide_secrets(words: str, auth: RegistryAuth | None) -> str:
    """Return what a registry or an engine said, without the secrets that it may have repeated."""
    if auth is None:
        return words
    header = registry_header(auth)
    pair = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode("ascii")
    secrets = (auth.password, auth.identity_token, auth.registry_token, auth.auth, header, pair)
    # The longest first, for one may be a part of another.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        words = words.replace(secret, "***")
    return words


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
            f" {registry_domain(given.server_address)} did not match the image serverAddress {image.domain}"
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


def _config_path(environ: Mapping[str, str]) -> Path:
    if folder := environ.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    # A service may have no HOME, but its user has one.
    home = environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir
    return Path(home) / ".docker" / "config.json"


def _load_config(environ: Mapping[str, str]) -> tuple[Path, dict[str, Any]]:
    path = _config_path(environ)
    try:
        loaded: Any = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return path, {}
    except (OSError, ValueError) as error:
        # Not the parser's words, which could show a piece of the file.
        words = str(error.strerror) if isinstance(error, OSError) else "it is no JSON"
        raise PullFailed(f"could not get docker authentication: {path}: {words}") from None
    if not isinstance(loaded, dict):
        raise PullFailed(f"could not get docker authentication: {path} is no JSON object")
    return path, loaded  # pyright: ignore[reportUnknownVariableType]


def _of_domain(entries: object, domain: str) -> tuple[str, object] | None:
    """Return the key and the value of a registry, whichever way its key is written."""
    if not isinstance(entries, Mapping):
        return None
    table: Mapping[str, object] = entries  # pyright: ignore[reportUnknownVariableType]
    found = [key for key in table if registry_domain(key) == domain]
    if not found:
        return None
    key = domain if domain in found else found[0]
    return key, table[key]


def _from_entry(key: str, entry: object) -> RegistryAuth | None:
    if not isinstance(entry, Mapping):
        return None
    fields: Mapping[str, str] = entry  # pyright: ignore[reportUnknownVariableType]
    if token := fields.get("identitytoken"):
        return RegistryAuth(identity_token=token, server_address=key)
    if token := fields.get("registrytoken"):
        return RegistryAuth(registry_token=token, server_address=key)
    if pair := fields.get("auth"):
        username, password = _decode_pair(pair, f"the entry of {key}")
        return RegistryAuth(username=username, password=password, server_address=key)
    if name := fields.get("username"):
        return RegistryAuth(username=name, password=fields.get("password", ""), server_address=key)
    return None


async def _ask_helper(
    name: str, domain: str, environ: Mapping[str, str], limit_s: float
) -> RegistryAuth | None:
    """Ask the program docker-credential-NAME, which may need variables of its own, such as AWS_*."""
    program = f"docker-credential-{os.path.basename(name)}"
    server = _hub_key if domain == HUB else domain
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "get",
            env={**environ, "PATH": client_environment(environ)["PATH"]},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise PullFailed(
            f"could not get docker authentication: {program}: {error.strerror}"
        ) from error
    try:
        async with asyncio.timeout(limit_s):
            stdout, stderr = await process.communicate(f"{server}\n".encode())
    except TimeoutError as error:
        raise PullFailed(
            f"could not get docker authentication: {program} gave no answer in {limit_s:g} s"
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # with all that it started
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if b"credentials not found" in stdout + stderr:
        return None
    if process.returncode != 0:
        raise PullFailed(
            f"could not get docker authentication: {program}:"
            f" {_known_words(stdout + stderr)} (exit status {process.returncode}); to see why, run"
            f" as the agent's user: echo {server} | {program} get"
        )
    return _read_helper(stdout, server, program)


def _known_words(output: bytes) -> str:
    """Return what a helper said where it is known to hold no secret; its output may hold one."""
    text = output.decode(errors="replace").lower()
    return next((words for words in _harmless_words if words in text), "it failed")


def _read_helper(answer: bytes, server: str, program: str) -> RegistryAuth:
    try:
        data: dict[str, str] = json.loads(answer)
        username, secret = data["Username"], data["Secret"]
    except (ValueError, KeyError, TypeError):
        raise PullFailed(
            f"could not get docker authentication: {program}: its answer has no Username and Secret"
        ) from None
    if username == "<token>":
        return RegistryAuth(identity_token=secret, server_address=server)
    return RegistryAuth(username=username, password=secret, server_address=server)


def _info(text: str) -> Event:
    return Event(kind=EventKind.INFO, text=text)


def _warning(text: str) -> Event:
    return Event(kind=EventKind.WARNING, text=text)
