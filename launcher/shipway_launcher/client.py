"""Talk to a running launcher as the master does, for the command line."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from shipway_launcher.errors import LauncherError

_LIMIT_S = 300.0


class CallFailed(LauncherError):
    """The launcher did not do what it was asked; the text is its own where it gave one.

    *status* is that of its answer; None: it gave none.
    """

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class LauncherClient:
    """The API of one launcher, with one token."""

    def __init__(self, url: str, token: str, *, cert_file: Path | None = None) -> None:
        """Prepare; the connection is opened by `async with`.

        Args:
            url: Where the launcher is.
            token: What it wants to see.
            cert_file: The launcher's own certificate, which is then taken under any name: who can
                read the launcher's settings knows which one it is, and calls it on loopback.
        """
        self._url, self._cert_file = url, cert_file
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trust()),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_LIMIT_S),
        )
        return self

    def _trust(self) -> ssl.SSLContext | bool:
        if self._cert_file is None:
            return True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the very certificate is compared, not a name in it
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            own, end, _ = self._cert_file.read_text().partition("-----END CERTIFICATE-----")
            context.load_verify_locations(cadata=own + end)
        except (OSError, ValueError) as error:
            raise CallFailed(f"tls.cert_file: {self._cert_file}: {error}") from error
        return context

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def launch(
        self, manifest: bytes, *, user: str = "", dispatch_id: str | None = None
    ) -> dict[str, Any]:
        """Launch a manifest."""
        query = {"impersonate": user} | ({"dispatchId": dispatch_id} if dispatch_id else {})
        return await self._json("PUT", "/launch", query=query, body=manifest)

    async def status(self, owner: str, dispatch_id: str) -> dict[str, Any]:
        """Return a DispatchInfo that is not older than this call."""
        path = f"/monitoring/{_environment(owner, dispatch_id)}/status"
        return await self._json("GET", path, query={"refresh": "true"})

    async def log(self, owner: str, dispatch_id: str, name: str, *, lines: int | None) -> bytes:
        """Return a log, or its last lines."""
        path = f"/monitoring/{_environment(owner, dispatch_id)}/logs/{quote(name, safe='')}"
        headers = {} if lines is None else {"Range": f"lines=-{lines}"}
        return await self._call("GET", path, headers=headers)

    async def log_from(self, owner: str, dispatch_id: str, name: str, *, offset: int) -> bytes:
        """Return what a log has behind its first *offset* bytes."""
        path = f"/monitoring/{_environment(owner, dispatch_id)}/logs/{quote(name, safe='')}"
        try:
            return await self._call("GET", path, headers={"Range": f"bytes={offset}-"})
        except CallFailed as error:
            if error.status in (404, 416):  # there is none yet, or no more of it
                return b""
            raise

    async def terminate(self, owner: str, dispatch_id: str) -> dict[str, Any]:
        """Ask for the end of a dispatch."""
        path = f"/running/{_environment(owner, dispatch_id)}"
        return await self._json("DELETE", path, query={"force": "true"})

    async def delete(self, owner: str, dispatch_id: str) -> None:
        """Remove a dispatch and its files."""
        await self._call("DELETE", f"/monitoring/{_environment(owner, dispatch_id)}/management")

    async def list_all(self, *, ended: bool) -> list[dict[str, Any]]:
        """Return the dispatches that run, and with *ended* also those that have ended."""
        found: list[dict[str, Any]] = []
        for path in ("/running", "/terminated") if ended else ("/running",):
            found += (await self._json("GET", path))["data"]
        return found

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        data = await self._call(method, path, query=query, body=body)
        loaded: dict[str, Any] = json.loads(data)
        return loaded

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        assert self._session is not None, "the client is entered first"
        content = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(
                method,
                f"{self._url}{path}",
                params=query,
                data=body,
                headers={**content, **(headers or {})},
            ) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CallFailed(
                f"the launcher at {self._url} does not answer ({error}); is"
                " `shipway-launcher serve` running?"
            ) from error
        if answer.status >= 300:
            raise CallFailed(_explain(answer.status, data), status=answer.status)
        return data


def _environment(owner: str, dispatch_id: str) -> str:
    return f"{quote(owner, safe='')}/environments/{quote(dispatch_id, safe='')}"


def _explain(status: int, data: bytes) -> str:
    try:
        detail: Any = json.loads(data)["detail"]
    except (ValueError, KeyError, TypeError):
        detail = data.decode("utf-8", "replace")[:500]
    return f"{status}: {detail}"
