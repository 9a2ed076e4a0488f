"""An engine that speaks Docker's API: requests, streams, and its errors in our words."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp

from shipway_agent.errors import (
    ContainerRuntimeError,
    RuntimeRefused,
    RuntimeUnavailable,
    UnreadableAnswer,
)
from shipway_agent.runtimes.chunks import Frame

CALL_LIMIT_S = 60.0
_CONNECT_LIMIT_S = 10.0
_FRAME_HEADER_BYTES = 8
_NEWEST_API = (1, 44)
"""The newest version of Docker's API that this code was written for."""

_remedies = {
    errno.ENOENT: "there is no such socket; start the engine",
    errno.ECONNREFUSED: "nobody listens there; start the engine",
    errno.EACCES: "this user may not use it; add the user to the socket's group (docker), or run"
    " the agent as root",
}


class Engine:
    """One engine, Docker's or Podman's, at one address."""

    def __init__(self, address: str, docker: aiodocker.Docker, version: Mapping[str, Any]) -> None:
        """Use the open client *docker*; see `connect`."""
        self.address = address
        self._docker = docker
        self.version = str(version.get("Version", "?"))
        components: list[dict[str, Any]] = version.get("Components") or []
        podman = next((part for part in components if "Podman" in str(part.get("Name"))), None)
        self.is_podman = podman is not None
        details: Mapping[str, Any] = (podman or {}).get("Details") or {}
        self._libpod_version = str(details.get("APIVersion", "4.0.0"))

    async def aclose(self) -> None:
        """Close the connections."""
        await _close(self._docker)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: object = None,
        data: bytes | None = None,
        limit_s: float | None = CALL_LIMIT_S,
    ) -> Any:
        """Send one request and return what its JSON answer says; None for an empty one.

        Args:
            method: GET, POST, …
            path: Below the API's version.
            params: The query.
            body: Sent as JSON, if not None.
            data: Sent as it is.
            limit_s: Limit of the whole call in seconds; None for those that wait for something.

        Raises:
            RuntimeUnavailable: No answer.
            RuntimeRefused: An answer with an error, whose HTTP status it carries.
            UnreadableAnswer: An answer that is no JSON.
        """
        if body is not None:
            data = json.dumps(body).encode("ascii")
        try:
            async with (
                asyncio.timeout(limit_s),
                self.stream(method, path, params=params, data=data) as response,
            ):
                answer = await response.read()
        except TimeoutError as error:
            raise RuntimeUnavailable(
                f"{self.address}: no answer to {method} {path} in {limit_s} s"
            ) from error
        except aiohttp.ClientError as error:
            raise RuntimeUnavailable(f"{self.address}: {method} {path}: {error}") from error
        return _read_json(answer, path) if answer.strip() else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send one request and give its answer as it comes; reading may raise aiohttp's errors.

        Raises:
            RuntimeUnavailable: No answer.
            RuntimeRefused: An answer with an error, whose HTTP status it carries.
        """
        version = self._docker.api_version
        if path.startswith("libpod/"):
            version = f"v{self._libpod_version}"
        url = f"{self._docker.docker_host}/{version}/{path}"
        kind = {"Content-Type": "application/json"} if data is not None else {}
        try:
            response = await self._docker.session.request(
                method,
                url,
                params=params,
                data=None if data is None else io.BytesIO(data),
                headers={**kind, **(headers or {})},
            )
        except aiohttp.ClientError as error:
            words = _words_of(error)
            raise RuntimeUnavailable(f"cannot reach {self.address}: {words}") from error
        async with response:
            if response.status >= 400:
                text = _error_text(await response.read())
                raise RuntimeRefused(f"{method} {path}: {text}", status=response.status)
            yield response


async def connect(address: str, environ: Mapping[str, str]) -> Engine:
    """Reach the engine at *address* (unix, tcp, http, https).

    Args:
        address: As in DOCKER_HOST.
        environ: DOCKER_TLS_VERIFY, DOCKER_CERT_PATH and DOCKER_API_VERSION are heeded.

    Raises:
        RuntimeUnavailable: Nothing that speaks Docker's API answers there.
    """
    pinned = environ.get("DOCKER_API_VERSION", "").removeprefix("v")
    if pinned and not re.fullmatch(r"[0-9]+\.[0-9]+", pinned):
        raise RuntimeUnavailable(f"DOCKER_API_VERSION {pinned!r} is no version such as 1.41")
    url, connector = await _connect_by(address, environ)
    docker = aiodocker.Docker(url=url, connector=connector)
    try:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            version = await _fetch_version(docker)
        docker.api_version = f"v{pinned or _choose_api(version)}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        await _close(docker)
        words = _words_of(error) or f"no answer in {_CONNECT_LIMIT_S} s"
        raise RuntimeUnavailable(f"no engine answers at {address}: {words}") from error
    except (UnreadableAnswer, ValueError) as error:
        await _close(docker)
        raise RuntimeUnavailable(
            f"no engine answers at {address}, but something else: {error}"
        ) from error
    except BaseException:
        await _close(docker)
        raise
    return Engine(address, docker, version)


async def read_json_lines(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield the JSON objects of a stream, one a line, however long a line is."""
    rest: list[bytes] = []
    async for piece in response.content.iter_any():
        *lines, last = piece.split(b"\n")
        for line in lines:
            if text := b"".join([*rest, line]).strip():
                yield _read_object(text)
            rest = []
        rest.append(last)
    if text := b"".join(rest).strip():
        yield _read_object(text)


async def read_frames(response: aiohttp.ClientResponse) -> AsyncIterator[list[Frame]]:
    """Yield the frames of a multiplexed stream, those that came together in one list."""
    buffer = bytearray()
    async for piece in response.content.iter_any():
        buffer += piece
        frames: list[Frame] = []
        offset = 0
        while offset + _FRAME_HEADER_BYTES <= len(buffer):
            start = offset + _FRAME_HEADER_BYTES
            end = start + int.from_bytes(buffer[offset + 4 : start], "big")
            if end > len(buffer):
                break
            frames.append((buffer[offset], bytes(buffer[start:end])))
            offset = end
        del buffer[:offset]
        yield frames


async def _connect_by(
    address: str, environ: Mapping[str, str]
) -> tuple[str, aiohttp.BaseConnector]:
    """Return the client's URL and a connector without its own limit: each container holds two."""
    if address.startswith("unix://"):
        path = address.removeprefix("unix://")
        return "unix://localhost", aiohttp.UnixConnector(path, limit=0)
    scheme, _, host = address.partition("://")
    if scheme not in {"tcp", "http", "https"} or not host:
        raise RuntimeUnavailable(f"engine address {address!r}: use unix://, tcp:// or https://")
    if scheme != "https" and not environ.get("DOCKER_TLS_VERIFY"):
        return f"http://{host}", aiohttp.TCPConnector(limit=0, socket_factory=_watched_socket)
    context = await asyncio.to_thread(_tls_context, environ)
    return f"https://{host}", aiohttp.TCPConnector(
        limit=0, ssl=context, socket_factory=_watched_socket
    )


async def _fetch_version(docker: aiodocker.Docker) -> dict[str, Any]:
    """Ask who answers there, and in which versions of the API; this path belongs to none."""
    async with docker.session.get(f"{docker.docker_host}/version") as response:
        return _read_object(await response.read(), "version")


def _choose_api(version: Mapping[str, Any]) -> str:
    """Return the newest API version that the engine and this code know.

    An engine that has dropped all of those is spoken to in the oldest that it has.
    """
    newest = min(_version_numbers(version.get("ApiVersion")), _NEWEST_API)
    major, minor = max(newest, _version_numbers(version.get("MinAPIVersion", "1.0")))
    return f"{major}.{minor}"


def _version_numbers(text: object) -> tuple[int, int]:
    major, _, minor = str(text).partition(".")
    return int(major), int(minor)


def _watched_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make a connection whose other end is asked now and then whether it is still there."""
    made = socket.socket(*info[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


def _words_of(error: BaseException) -> str:
    """Return what went wrong, and what to do where that is known."""
    cause: BaseException | None = error
    while cause is not None:  # the client wraps what the system said
        number = cause.errno if isinstance(cause, OSError) else None
        if remedy := _remedies.get(number or 0):
            return f"{error}: {remedy}"
        cause = cause.__cause__ or cause.__context__
    return str(error)


def _tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    folder = environ.get("DOCKER_CERT_PATH") or str(Path(environ.get("HOME", "/")) / ".docker")
    try:
        context = ssl.create_default_context(cafile=f"{folder}/ca.pem")
        context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    except OSError as error:
        raise RuntimeUnavailable(
            f"certificates for the engine in {folder} (DOCKER_CERT_PATH): {error}"
        ) from error
    return context


async def _close(docker: aiodocker.Docker) -> None:
    await docker.close()
    await docker.connector.close()


def _read_json(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnreadableAnswer(f"{what}: no JSON: {text[:200]!r}") from error


def _read_object(text: bytes, what: str = "stream") -> dict[str, Any]:
    read: Any = _read_json(text, what)
    if not isinstance(read, dict):
        raise UnreadableAnswer(f"{what}: no JSON object: {text[:200]!r}")
    return read  # pyright: ignore[reportUnknownVariableType]


def _error_text(answer: bytes) -> str:
    """Return the message of an error answer; of one in another form, its beginning."""
    try:
        data: Any = json.loads(answer)
        return str(data["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode(errors="replace")


def status_of(error: ContainerRuntimeError) -> int | None:
    """Return the HTTP status of a refusal, or None."""
    return error.status if isinstance(error, RuntimeRefused) else None
