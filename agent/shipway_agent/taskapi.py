"""REST calls to the master, or to the relay in its place, in the name of one task."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from shipway_agent.errors import MasterError
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

NOT_VERIFIED = Path("noverify")
"""The stock word for it in the place of a file, which only whoever launches the task can say."""

_CONNECT_S = 10.0
_CALL_S = 60.0


class CallFailed(MasterError):
    """The master cannot be reached, or has trouble of its own; the same call may work later."""

    retryable = True

    def __init__(
        self, message: str, *, may_have_worked: bool = True, is_internal: bool = False
    ) -> None:
        super().__init__(message)
        self.may_have_worked = may_have_worked
        """Whether the call may have arrived and only its answer not."""
        self.is_internal = is_internal
        """Whether the master answered that something went wrong in it: this call may be why."""


class CallRefused(MasterError):
    """The master's answer is no, and the same call will not fare better."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class TaskApi:
    """An HTTP client with a task's token; to be entered."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        trust: ssl.SSLContext | None = None,
        certificate_name: str | None = None,
        proxy: URL | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: Where the calls go, without a slash at the end.
            token: The allocation's session token.
            trust: Whom to believe that it is the master; None: the system's authorities.
            certificate_name: The name that the master's certificate must carry; None: the host.
            proxy: HTTP proxy on the way there.
        """
        self._url = url
        self._headers = {"Grpc-Metadata-x-allocation-token": f"Bearer {token}"}
        self._trust, self._certificate_name, self._proxy = trust, certificate_name, proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=True if self._trust is None else self._trust),
            timeout=aiohttp.ClientTimeout(total=_CALL_S, sock_connect=_CONNECT_S),
            headers=self._headers,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Make one call.

        Raises:
            CallFailed: It may work later.
            CallRefused: It will not.
        """
        await self.post_json(path, json.dumps(body).encode())

    async def post_json(self, path: str, body: bytes) -> None:
        """Make one call whose body is JSON already; else like `post`."""
        await self._call("POST", path, body, {})

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """Ask for something; errors as of `post`."""
        return await self._call("GET", path, None, query)

    async def _call(
        self, method: str, path: str, body: bytes | None, query: Mapping[str, str]
    ) -> bytes:
        assert self._session is not None
        try:
            async with self._session.request(
                method,
                self._url + path,
                params=query,
                data=None if body is None else io.BytesIO(body),  # a large one goes in pieces
                headers=None if body is None else {"Content-Type": "application/json"},
                server_hostname=self._certificate_name,
                proxy=self._proxy,
            ) as answer:
                data = await answer.read()
        except aiohttp.ClientResponseError as error:
            # Nothing else of it, and not as the cause: it has our token and the proxy's password.
            is_proxy = isinstance(error, aiohttp.ClientHttpProxyError)
            who = "the proxy answers" if is_proxy else "the answer cannot be read:"
            raise CallFailed(
                f"{method} {self._url}{path}: {who} {error.status} {error.message}",
                may_have_worked=not is_proxy,
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CallFailed(
                f"{method} {self._url}{path}: {error!r}",
                may_have_worked=not isinstance(error, aiohttp.ClientConnectorError),
            ) from error
        if answer.status == 200:
            return data
        text = data.decode(errors="replace")[:500]
        message = f"{method} {self._url}{path} was answered {answer.status}: {text}"
        if answer.status >= 500 or answer.status in {408, 429}:
            raise CallFailed(
                message,
                may_have_worked=answer.status not in {429, 503},
                is_internal=answer.status == 500,
            )
        raise CallRefused(message, status=answer.status)

    async def post_until_taken(self, path: str, body: Mapping[str, Any]) -> None:
        """Make one call again and again until it is answered; a refusal is logged.

        Only for calls that do no harm when they arrive twice.
        """
        is_away = False
        for delay_s in backoff_delays_s(limit_s=10):
            try:
                await self.post(path, body)
            except CallFailed as error:
                if not is_away:
                    is_away = True
                    log.warning("the master was not reached; trying again: %s", error)
                await asyncio.sleep(delay_s)
            except CallRefused as error:
                log.error("the master refused a call, which is dropped: %s", error)
                return
            else:
                return


def load_trust(environment: Mapping[str, str], tree: Path | None) -> ssl.SSLContext:
    """Make the TLS context that a task's variables ask for; blocking.

    Args:
        environment: The task's; DET_MASTER_CERT_FILE names a file in its container.
        tree: Where the container's files lie on this host, if they do.

    Raises:
        OSError: There is no such file, or no certificate in it.
    """
    file = find_certificates(environment, tree)
    if file == NOT_VERIFIED:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return trust
    return ssl.create_default_context(cafile=file)


def find_certificates(environment: Mapping[str, str], tree: Path | None) -> Path | None:
    """Find the file with the certificates that a task's variables name; blocking.

    Returns:
        The file, `NOT_VERIFIED`, or None for the system's authorities.
    """
    name = environment.get("DET_MASTER_CERT_FILE", "")
    if not name or name == str(NOT_VERIFIED):
        return Path(name) if name else None
    inside = None if tree is None else tree / name.lstrip("/")
    return inside if inside is not None and inside.exists() else Path(name)
