"""Where agents call in: `GET /agents`, upgraded to a websocket."""

from __future__ import annotations

import ipaddress
import json
import logging
import socket
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from shipway_common.logsetup import log_context
from shipway_master.agents.agent import Agent
from shipway_master.agents.fields import BadMessage
from shipway_master.agents.messages import MUST_RESTART, parse_message
from shipway_master.agents.session import FRAME_LIMIT_BYTES, Heartbeat, Session
from shipway_master.agents.worker import Left, Received
from shipway_master.allocations.ids import AgentId

log = logging.getLogger(__name__)

_ALREADY_CONNECTED = "agent: websocket already connected"
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


class Refused(Exception):
    """The agent is told why by an HTTP status instead of the upgrade."""

    def __init__(self, text: str, *, status: int = 500) -> None:
        super().__init__(text)
        self.status = status


class Roster(Protocol):
    """What the endpoint needs of the agent manager."""

    def find_agent(self, agent_id: AgentId) -> Agent | None:
        """The agent of that id."""
        ...

    def has_pool(self, pool: str) -> bool:
        """Whether agents may belong to a pool of that name."""
        ...

    def add_agent(self, agent_id: AgentId, *, pool: str, address: str, version: str) -> Agent:
        """Make a record of a new agent."""
        ...

    def join(self, agent: Agent, session: Session, *, address: str, version: str) -> None:
        """Give an agent its connection, and greet it."""
        ...


class AgentEndpoint:
    """Serves the connections of agents."""

    def __init__(self, roster: Roster, *, heartbeat: Heartbeat) -> None:
        self._roster = roster
        self._heartbeat = heartbeat
        self._own_name = socket.gethostname()
        self._is_closing = False

    @property
    def route(self) -> web.RouteDef:
        """The route of this endpoint."""
        return web.get("/agents", self.handle)

    def close(self) -> None:
        """Let nobody in any more."""
        self._is_closing = True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        try:
            return await self._serve(request)
        except Refused as refusal:
            log.info("an agent was refused", extra={"reason": str(refusal)})
            return web.Response(
                status=refusal.status,
                text=json.dumps({"message": str(refusal)}),
                content_type="application/json",
            )

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise Refused("Bad Request", status=400)
        if self._is_closing:
            raise Refused("the master is stopping", status=503)
        _check_origin(request.headers)
        address = self._find_address(request)
        agent_id, reconnects, pool = _read_query(request.query)
        await self._require_welcome(agent_id, reconnects=reconnects, pool=pool)
        connection = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=FRAME_LIMIT_BYTES, timeout=5.0
        )
        await connection.prepare(request)  # an invalid handshake ends here, and touches no agent
        session = Session(
            connection, address=address, heartbeat=self._heartbeat, origin=_origin_of(request)
        )
        version = request.query.get("version", "")
        agent = self._roster.find_agent(agent_id)
        if agent is None:
            agent = self._roster.add_agent(agent_id, pool=pool, address=address, version=version)
        if agent.session is not None:  # somebody else was quicker
            await connection.close(code=1008, message=_ALREADY_CONNECTED.encode())
            return connection
        self._roster.join(agent, session, address=address, version=version)
        with log_context(agent_id=agent_id):
            await self._run(agent, session)
        return connection

    async def _run(self, agent: Agent, session: Session) -> None:
        def receive(text: str | bytes) -> None:
            message = parse_message(text, peer_address=session.address)
            agent.inbox.put(Received(session, message))

        try:
            await session.run(receive)
        except BadMessage as error:
            log.warning("agent sent what it may not: %s", error)
        except ConnectionError as error:
            log.info("agent's connection broke: %s", error)
        finally:
            agent.inbox.put(Left(session))

    async def _require_welcome(self, agent_id: AgentId, *, reconnects: bool, pool: str) -> None:
        agent = self._roster.find_agent(agent_id)
        if agent is None:
            if reconnects:
                raise Refused(MUST_RESTART)
            if not self._roster.has_pool(pool):
                raise Refused(f"cannot find specified resource pool {pool} for agent {agent_id}")
            return
        older = agent.session
        if older is None:
            return
        if await older.is_alive():
            raise Refused(f"{_ALREADY_CONNECTED}, from {older.origin}")
        log.warning("a dead connection is replaced", extra={"agent_id": agent_id})
        older.close()
        if agent.session is older:
            agent.session, agent.is_started = None, False

    def _find_address(self, request: web.Request) -> str:
        peer = request.remote or ""
        name = request.query.get("hostname", "")
        try:
            is_loopback = ipaddress.ip_address(peer).is_loopback
        except ValueError:
            is_loopback = False
        if is_loopback and name and name != self._own_name:
            return name
        return f"[{peer}]" if ":" in peer else peer


def _origin_of(request: web.Request) -> str:
    """Say where an agent calls from, for whoever finds its place taken."""
    name = request.query.get("hostname", "")
    printable = "".join(letter for letter in name if letter.isprintable())[:253]
    return f"{request.remote}" + (f" (host {printable})" if printable else "")


def _check_origin(headers: Mapping[str, str]) -> None:
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("Host", "").lower():
        raise Refused("Forbidden", status=403)


def _read_query(query: Mapping[str, str]) -> tuple[AgentId, bool, str]:
    text = query.get("reconnect", "")
    if text not in _TRUE | _FALSE:
        raise Refused(
            f'parsing reconnect query param: strconv.ParseBool: parsing "{text}": invalid syntax'
        )
    agent_id = query.get("id", "")
    if not agent_id:
        raise Refused("invalid agent id specified: ")
    return AgentId(agent_id), text in _TRUE, query.get("resource_pool") or "default"
