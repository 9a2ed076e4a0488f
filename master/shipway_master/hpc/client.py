"""The client of one launcher: one method per call of its REST API."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any, Self, cast
from urllib.parse import quote

import aiohttp

from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.errors import (
    DispatchNotFound,
    LauncherRefused,
    LauncherUnreachable,
    LauncherUnreadable,
    TokenRefused,
)
from shipway_master.hpc.manifest import build_query
from shipway_master.hpc.messages import filter_messages
from shipway_master.hpc.reading import DispatchStatus, UnreadableAnswer, parse_status
from shipway_master.hpc.token import TokenFile, TokenUnreadable

_CONNECT_LIMIT_S = 10.0
_ANSWER_LIMIT_S = 60.0
_LAUNCH_LIMIT_S = 300.0
_LOG_LIMIT_BYTES = 64 * 2**20


class LauncherClient:
    """Every method may raise a `LauncherError`; after a 401 or 403 the token is read again."""

    def __init__(self, config: SlurmManagerConfig) -> None:
        self.base_url = config.base_url
        self._token = TokenFile(config.auth_file)
        self._tls = config.security.tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A connection that was kept may be dead without looking so, and a launch must not get lost.
        connector = aiohttp.TCPConnector(
            ssl=await asyncio.to_thread(self._make_tls), limit=32, force_close=True
        )
        self._session = aiohttp.ClientSession(connector=connector)
        # The library would send a PUT again when the connection breaks, and with it launch twice;
        # it has no public switch for that.
        setattr(self._session, "_retry_connection", False)  # noqa: B010
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch_version(self) -> str:
        """Ask which version the launcher is."""
        return (await self._call("GET", "/info/version/server")).decode("utf-8", "replace")

    async def launch(
        self, manifest: Mapping[str, Any], *, user: str, dispatch_id: str
    ) -> DispatchStatus:
        """Launch a job as *user* (empty: as the launcher's own user)."""
        parameters = {"impersonate": user, "dispatchId": dispatch_id}
        answer = await self._call(
            "PUT", "/launch", parameters=parameters, body=manifest, limit_s=_LAUNCH_LIMIT_S
        )
        return _read_status(answer)

    async def query(self, kind: str, log_name: str) -> str:
        """Ask for resources or queues: launch the question, read the answer, clean up."""
        answer = await self._call(
            "PUT", "/launch", parameters={"impersonate": ""}, body=build_query(kind)
        )
        status = _read_status(answer)
        try:
            text = await self.fetch_log(status.owner, status.dispatch_id, log_name)
        finally:
            await self.terminate(status.owner, status.dispatch_id)
            await self.delete(status.owner, status.dispatch_id)
        return text

    async def fetch_status(self, owner: str, dispatch_id: str) -> DispatchStatus:
        """Ask for the state of a dispatch, which the launcher asks the workload manager for."""
        path = f"/monitoring/{_place(owner, dispatch_id)}/status"
        return _read_status(await self._call("GET", path, parameters={"refresh": "true"}))

    async def find_dispatch(self, dispatch_id: str) -> DispatchStatus | None:
        """Look for a dispatch whose owner is not known, among those that run and those that ended.

        What is found has no events.
        """
        for path in ("/running", "/terminated"):
            answer = await self._call("GET", path, parameters={"eventLimit": "0"})
            for entry in _read_list(answer):
                if entry.dispatch_id == dispatch_id:
                    return entry
        return None

    async def fetch_log(
        self, owner: str, dispatch_id: str, name: str, *, last_lines: int | None = None
    ) -> str:
        """Read a log of a dispatch, or its last lines."""
        headers = {} if last_lines is None else {"Range": f"lines=-{last_lines}"}
        path = f"/monitoring/{_place(owner, dispatch_id)}/logs/{quote(name, safe='')}"
        return (await self._call("GET", path, headers=headers)).decode("utf-8", "replace")

    async def terminate(self, owner: str, dispatch_id: str) -> None:
        """Ask for the end of a dispatch; one that is unknown or over is no error."""
        try:
            await self._call(
                "DELETE", f"/running/{_place(owner, dispatch_id)}", parameters={"force": "true"}
            )
        except DispatchNotFound:
            return

    async def delete(self, owner: str, dispatch_id: str) -> None:
        """Have the launcher forget a dispatch and remove its files; unknown is no error."""
        try:
            await self._call("DELETE", f"/monitoring/{_place(owner, dispatch_id)}/management")
        except DispatchNotFound:
            return

    async def _call(
        self,
        verb: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        limit_s: float = _ANSWER_LIMIT_S,
    ) -> bytes:
        if self._session is None:
            raise RuntimeError("the client is not open")
        try:
            authorization = await self._token.get_header()
        except TokenUnreadable as error:
            raise LauncherUnreachable(str(error), may_have_arrived=False) from error
        all_headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": authorization,
            **(headers or {}),
        }
        data = None if body is None else json.dumps(body).encode()
        timeout = aiohttp.ClientTimeout(total=limit_s, connect=_CONNECT_LIMIT_S)
        what = f"{verb} {self.base_url}{path}"
        try:
            async with self._session.request(
                verb,
                self.base_url + path,
                params=parameters,
                data=data,
                headers=all_headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                content = await answer.content.read(_LOG_LIMIT_BYTES)
                while not answer.content.at_eof() and len(content) < _LOG_LIMIT_BYTES:
                    content += await answer.content.read(_LOG_LIMIT_BYTES - len(content))
        except aiohttp.ClientConnectorError as error:
            raise LauncherUnreachable(f"{what}: {error}", may_have_arrived=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = str(error) or "no answer in time"
            raise LauncherUnreachable(f"{what}: {text}", may_have_arrived=True) from error
        self._require_success(what, answer.status, answer.reason or "", content)
        return content

    def _require_success(self, what: str, status: int, reason: str, content: bytes) -> None:
        if 200 <= status < 300:
            return
        line = f"{status} {reason}".strip()
        detail = find_detail(content)
        text = detail or f"{what} answered {line}"
        if status in (401, 403):
            self._token.forget()
            raise TokenRefused(f"{what} answered {line}", status=status)
        if status == 404:
            raise DispatchNotFound(text, status=status)
        raise LauncherRefused(text, status=status)

    def _make_tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(
            cafile=None if self._tls.certificate is None else str(self._tls.certificate)
        )
        if self._tls.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def find_detail(content: bytes) -> str:
    """The filtered `detail` of an error's body; empty if it has none."""
    try:
        problem: Any = json.loads(content)
    except ValueError:
        return ""
    if not isinstance(problem, dict):
        return ""
    detail = cast("dict[str, Any]", problem).get("detail")
    return "\n".join(filter_messages([detail])).strip() if isinstance(detail, str) else ""


def _place(owner: str, dispatch_id: str) -> str:
    return f"{quote(owner, safe='')}/environments/{quote(dispatch_id, safe='')}"


def _read_list(content: bytes) -> list[DispatchStatus]:
    try:
        answer: Any = json.loads(content)
        entries: Any = answer.get("data") or []
        return [parse_status(entry) for entry in entries]
    except (ValueError, AttributeError, TypeError, UnreadableAnswer) as error:
        raise LauncherUnreadable(f"cannot read the launcher's list: {error}") from error


def _read_status(content: bytes) -> DispatchStatus:
    try:
        return parse_status(json.loads(content))
    except (ValueError, UnreadableAnswer) as error:
        raise LauncherUnreadable(f"cannot read the launcher's answer: {error}") from error
