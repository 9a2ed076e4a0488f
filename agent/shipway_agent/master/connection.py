"""One websocket to the master: frames, pings and their limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from shipway_agent.errors import MasterRefused, MasterUnreachable, MustRestart

log = logging.getLogger(__name__)

MUST_RESTART = "agent is past reconnect period, it must restart"
"""The text by which a master says so, in an HTTP answer or an AgentShutdown."""

ALREADY_CONNECTED = "websocket already connected"
"""Part of the text by which a master refuses a second agent of one id."""

_MAX_MESSAGE_BYTES = 128 << 20  # StartContainer carries the harness


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Limits of a connection, in seconds; the defaults are the protocol's."""

    dial_s: float = 45
    ping_interval_s: float = 15
    silence_s: float = 60
    """Without a pong for so long, the connection is dead."""
    write_s: float = 60
    close_s: float = 5

    @classmethod
    def with_silence(cls, silence_s: float) -> Timing:
        """Return the limits for who wants to wait no longer than *silence_s* for a pong."""
        return cls(ping_interval_s=min(15, silence_s / 4), silence_s=silence_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the master is, and how it is reached."""

    url: URL
    """Of the websocket, without its query."""
    tls: ssl.SSLContext | None = None
    """Set exactly for wss."""
    server_name: str | None = None
    """What the master's certificate must say instead of the URL's host."""
    proxy: URL | None = None


class Connection:
    """An open websocket. What it receives is read by `receive`, by one task only.

    The master sends no receipts, but it answers pings in the order of frames: a pong to a ping
    that was sent after a message proves that the master has read that message.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, timing: Timing) -> None:
        self._websocket = websocket
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._last_pong = self._loop.time()
        self.receipt = 0
        """The greatest number given to `ping` that came back."""
        self.receipts = asyncio.Condition()
        """Notified when `receipt` grows."""

    async def send(self, text: str) -> None:
        """Send one message; it is on its way, not yet read, when this returns.

        Raises:
            MasterUnreachable: The connection is dead.
        """
        await self._write(self._websocket.send_str(text))

    async def ping(self, number: int) -> None:
        """Ask for a receipt of all that was sent before.

        Args:
            number: Not smaller than that of an earlier ping.

        Raises:
            MasterUnreachable: The connection is dead.
        """
        await self._write(self._websocket.ping(str(number).encode()))

    async def receive(self) -> str | bytes | None:
        """Wait for the next message; None: the master closed the connection.

        Raises:
            MasterUnreachable: It broke, or no pong came in time.
        """
        while True:
            try:
                async with asyncio.timeout_at(self._last_pong + self._timing.silence_s):
                    frame = await self._websocket.receive()
            except TimeoutError as error:
                raise MasterUnreachable(
                    f"no answer to pings for {self._timing.silence_s:g} s"
                ) from error
            match frame.type:
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    data: str | bytes = frame.data
                    return data
                case aiohttp.WSMsgType.PING:
                    await self._write(self._websocket.pong(frame.data))
                case aiohttp.WSMsgType.PONG:
                    await self._take_pong(frame.data)
                case aiohttp.WSMsgType.CLOSE:
                    log.info("master closes the connection", extra={"code": frame.data})
                    return None
                case aiohttp.WSMsgType.ERROR:
                    raise MasterUnreachable(f"the connection broke: {frame.data}")
                case _:
                    raise MasterUnreachable("the connection broke")

    async def keep_alive(self) -> None:
        """Ping now and then, so that `receive` can tell a dead connection; ends only with it."""
        while True:
            await asyncio.sleep(self._timing.ping_interval_s)
            await self.ping(self.receipt)

    async def _take_pong(self, payload: bytes) -> None:
        self._last_pong = self._loop.time()
        number = int(payload) if payload.isdigit() and len(payload) < 20 else 0
        if number > self.receipt:
            async with self.receipts:
                self.receipt = number
                self.receipts.notify_all()

    async def wait_receipt(self, number: int) -> int:
        """Wait until *number* or a later one came back; returns which."""
        async with self.receipts:
            await self.receipts.wait_for(lambda: self.receipt >= number)
        return self.receipt

    async def _write(self, writing: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._timing.write_s):
                await writing
        except TimeoutError as error:
            raise MasterUnreachable(
                f"the master took no data for {self._timing.write_s:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise MasterUnreachable(f"the connection broke: {error}") from error

    async def aclose(self, *, politely: bool) -> None:
        """End the connection, also with a master that does not answer; TCP is down afterwards."""
        # Taken first: the socket of a websocket that aiohttp closed cannot be had any more.
        raw: socket.socket | None = self._websocket.get_extra_info("socket")
        if politely:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(self._timing.close_s):
                    await self._websocket.close(code=1000, message=b"close called")
                    return
        if raw is not None:
            # What could not be sent must not keep the socket open: the master would go on taking
            # us for connected, and refuse the next connection.
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(1):
                await self._websocket.close()


@asynccontextmanager
async def connect(
    endpoint: Endpoint, query: Mapping[str, str], timing: Timing
) -> AsyncGenerator[Connection, None]:
    """Dial the master; the connection is closed on the way out.

    Raises:
        MasterUnreachable: Nobody answered, or not as TLS demands; says what.
        MasterRefused: The answer was no.
        MustRestart: The answer was that this agent is given up.
    """
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),
        raise_for_status=_raise_refusal,
        headers={"User-Agent": f"shipway-agent/{query['version']}"},
    ) as session:
        websocket = await _dial(session, endpoint, query, timing)
        connection = Connection(websocket, timing)
        politely = False
        try:
            yield connection
            politely = True
        except (asyncio.CancelledError, GeneratorExit, MustRestart):
            politely = True
            raise
        finally:
            await connection.aclose(politely=politely)


async def _dial(
    session: aiohttp.ClientSession, endpoint: Endpoint, query: Mapping[str, str], timing: Timing
) -> aiohttp.ClientWebSocketResponse:
    try:
        async with asyncio.timeout(timing.dial_s):
            return await session.ws_connect(
                endpoint.url.with_query(query),
                autoping=False,
                autoclose=False,
                max_msg_size=_MAX_MESSAGE_BYTES,
                proxy=endpoint.proxy,
                ssl=endpoint.tls or True,
                server_hostname=endpoint.server_name,
                timeout=aiohttp.ClientWSTimeout(ws_close=timing.close_s),  # pyright: ignore[reportCallIssue] (attrs)
            )
    except TimeoutError as error:
        raise MasterUnreachable(f"{endpoint.url} did not answer in {timing.dial_s:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise MasterUnreachable(
            f"the certificate of {endpoint.url} is not trusted: {error.certificate_error}; see"
            " security.tls.master_cert and security.tls.master_cert_name"
        ) from error
    except aiohttp.WSServerHandshakeError as error:
        raise MasterUnreachable(f"{endpoint.url} is no websocket: {error.message}") from error
    except aiohttp.ClientHttpProxyError as error:
        # Nothing else of it, and not as the cause: it has the proxy's password in its text.
        raise MasterUnreachable(
            f"the proxy on the way to {endpoint.url} answers {error.status} {error.message}"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise MasterUnreachable(f"cannot connect to {endpoint.url}: {error}") from error


async def _raise_refusal(response: aiohttp.ClientResponse) -> None:
    """Turn an answer that is no upgrade into an error that says what to do."""
    if response.status == 101:
        return
    body = await response.content.read(1024)
    text = body.decode("utf-8", "replace").strip()
    with contextlib.suppress(ValueError, AttributeError):
        text = str(json.loads(body).get("message") or text)
    if MUST_RESTART in text:
        raise MustRestart(f"the master says: {text}", record_may_linger=False)
    hint = ""
    if ALREADY_CONNECTED in text:
        hint = (
            " (another agent with this id is connected, or the master has not noticed yet that"
            " our former connection is dead; if two machines share the id, set agent_id)"
        )
    elif response.status == 403:
        hint = " (does it want a client certificate? see security.tls.client_cert)"
    elif response.status == 404:
        hint = " (is this the address of a master?)"
    raise MasterRefused(
        f"the master refuses the connection: {response.status} {text}{hint}", status=response.status
    )
