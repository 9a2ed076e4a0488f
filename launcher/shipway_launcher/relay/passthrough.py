"""Everything else that jobs ask the master: passed on and back byte for byte, as it comes."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import AddrInfoType, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from shipway_common.backoff import backoff_delays_s
from shipway_common.frontdoor import KEEPALIVE
from shipway_launcher.relay import websockets
from shipway_launcher.relay.address import MasterAddress, MasterUrl
from shipway_launcher.relay.settings import MasterTlsSettings
from shipway_launcher.relay.trust import MasterTrust

log = logging.getLogger(__name__)

_CONNECT_S = 10.0
_CHUNK_BYTES = 64 << 10
_of_one_hop = frozenset(
    name.lower()
    for name in (
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    )
)


class PassThrough:
    """An HTTP client that stands in for the caller; to be entered.

    No answer has a time limit here: polls and log streams stay open as long as the caller wants.
    """

    def __init__(
        self, address: MasterAddress, tls: MasterTlsSettings, *, master_wait_s: float
    ) -> None:
        self._address, self._master_wait_s = address, master_wait_s
        self._trust = MasterTrust(tls.certificate_file)
        self._certificate_name = tls.certificate_name
        self._session: aiohttp.ClientSession | None = None
        self._websockets: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()
        self._is_away = False

    async def __aenter__(self) -> Self:
        await self._trust.current()  # what cannot be used should be known at the start
        connector = aiohttp.TCPConnector(limit=0, socket_factory=_socket_that_notices_silence)
        self._stack.push_async_callback(connector.close)
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=(
                hdrs.USER_AGENT,
                hdrs.ACCEPT,
                hdrs.ACCEPT_ENCODING,
                hdrs.CONTENT_TYPE,
            ),
        )
        self._stack.push_async_callback(self._session.close)
        self._websockets = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING),
            raise_for_status=websockets.keep_refusal,
        )
        self._stack.push_async_callback(self._websockets.close)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass *request* on; if the master stays away, end the connection without an answer.

        The callers try again after a broken connection, as they would with the master itself, but
        take an error status for the master's last word.
        """
        try:
            if websockets.is_websocket(request):
                return await self._join(request)
            async with await self._ask(request) as answer:
                return await _pass_back(request, answer)
        except (aiohttp.ClientError, OSError) as error:
            self._note_away(error)
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _join(self, request: web.Request) -> web.StreamResponse:
        assert self._websockets is not None
        master = await self._address.wait()
        headers = _end_to_end(request.headers)
        headers.popall(hdrs.HOST, None)
        try:
            far = await websockets.connect(
                self._websockets,
                URL(master.url + request.raw_path, encoded=True),
                headers,
                websockets.wanted_protocols(request),
                trust=(await self._trust.current()).context,
                server_hostname=self._certificate_name if master.is_tls else None,
            )
        except websockets.HandshakeRefused as refusal:
            answer = refusal.answer
            return web.Response(
                status=answer.status,
                reason=answer.reason,
                headers=_end_to_end(answer.headers),
                body=answer.body,
            )
        self._is_away = False
        async with far:
            return await websockets.join(request, far)

    async def _ask(self, request: web.Request) -> aiohttp.ClientResponse:
        """Send the request, waiting a while for a master that cannot be connected to."""
        deadline_s = time.monotonic() + self._master_wait_s
        for delay_s in backoff_delays_s(first_s=0.1, limit_s=2):
            async with asyncio.timeout(self._master_wait_s):
                master = await self._address.wait()
            try:
                return await self._send(request, master)
            except aiohttp.ClientConnectorError as error:  # so nothing of the body was read yet
                self._note_away(error)
                if time.monotonic() + delay_s > deadline_s:
                    raise
            await asyncio.sleep(delay_s)
        raise AssertionError("delays never end")

    async def _send(self, request: web.Request, master: MasterUrl) -> aiohttp.ClientResponse:
        assert self._session is not None
        headers = _end_to_end(request.headers)
        for name in (hdrs.HOST, hdrs.EXPECT):  # each is for one connection: we answer Expect
            headers.popall(name, None)
        body = request.content.iter_chunked(_CHUNK_BYTES) if request.can_read_body else None
        answer = await self._session.request(
            request.method,
            URL(master.url + request.raw_path, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=(await self._trust.current()).context,
            server_hostname=self._certificate_name if master.is_tls else None,
        )
        self._is_away = False
        return answer

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            log.warning("cannot pass a call to the master", extra={"reason": str(error)})


async def _pass_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    back = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=_end_to_end(answer.headers)
    )
    await back.prepare(request)
    async for chunk in answer.content.iter_any():
        await back.write(chunk)
    await back.write_eof()
    return back


def _socket_that_notices_silence(
    info: AddrInfoType,  # pyright: ignore[reportUnknownParameterType]
) -> socket.socket:
    """Make a socket that finds out when the master's machine is gone, when nothing is being said."""
    made = socket.socket(info[0], info[1], info[2])
    for level, option, value in KEEPALIVE:
        made.setsockopt(level, option, value)
    return made


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the headers that are meant for the other end, not for the next hop."""
    named = {
        name.strip().lower()
        for value in headers.getall(hdrs.CONNECTION, ())
        for name in value.split(",")
    }
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in _of_one_hop and name.lower() not in named
    )
