"""The lasting tie to the master: dial, greet, carry messages both ways, and dial again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shipway_agent.errors import (
    AgentError,
    MasterRefused,
    MasterUnreachable,
    MustRestart,
    UnreadableMessage,
)
from shipway_agent.master.connection import Connection, Endpoint, Timing, connect
from shipway_agent.master.messages import (
    AgentMessage,
    AgentShutdown,
    AgentStarted,
    MasterMessage,
    MasterOptions,
    SignalContainer,
    StartContainer,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.master.wire import encode_message, parse_message
from shipway_agent.tasks import first_ended
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

_BIG_MESSAGE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What the agent says at the start of a connection."""

    started: AgentStarted
    missed: Sequence[AgentMessage]
    """What the master has not heard, to be sent right after."""


class Obeys(Protocol):
    """Who carries out the master's orders. No method may wait for anything."""

    def greet(self, options: MasterOptions) -> Greeting:
        """Agree with the master on what is here; the outbox is rewound on the way."""
        ...

    def obey(self, order: StartContainer | SignalContainer) -> None:
        """Take an order; whether it can be carried out is reported by messages."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """How long and how often to try."""

    longest_delay_s: float = 5
    max_attempts: int = 0
    """Tries in a row before giving up; 0 or less: no last one."""
    linger_s: float = 30
    """How long a master may keep a timer for an agent that broke off its registration."""
    receipt_interval_s: float = 0.05
    """How often the master is asked what it has read, while there is something to ask for."""


class MasterLink:
    """Keeps one agent connected."""

    def __init__(
        self,
        *,
        query: Mapping[str, str],
        find_endpoint: Callable[[], Awaitable[Endpoint]],
        outbox: Outbox,
        agent: Obeys,
        persistence: Persistence,
        timing: Timing,
        on_outage: Callable[[float, bool], Awaitable[None]],
    ) -> None:
        """Make a link that is not connected yet.

        Args:
            query: What the agent says of itself in the dial; `reconnect` is set.
            find_endpoint: Asked before each dial; may raise `MasterUnreachable`.
            on_outage: Called after each failure with the outage's age in seconds, and whether the
                agent gives up.
        """
        self._query = query
        self._find_endpoint = find_endpoint
        self._outbox = outbox
        self._agent = agent
        self._persistence = persistence
        self._timing = timing
        self._on_outage = on_outage
        self._was_accepted = False
        """Whether the present dial led to an open websocket."""
        self._greeted_at: float | None = None
        """When the master was sent AgentStarted by the present dial."""
        self._is_registered = False
        """Whether the master ever heard our AgentStarted."""
        self._record_ended_at: float | None = None
        """When the master may have ended what it knew of us."""
        self.is_connected = False

    async def run(self) -> None:
        """Stay connected; ends by cancellation or by an error.

        Raises:
            MustRestart: The master gave this agent up.
            MasterUnreachable: The allowed number of attempts is used up.
        """
        loop = asyncio.get_running_loop()
        outage_began: float | None = None
        attempts = 0
        delays = self._delays()
        last_problem = ""
        while True:
            self._was_accepted, self._greeted_at = False, None
            problem = "the master closed the connection"
            try:
                await self._connect_once()
            except (MasterUnreachable, MasterRefused) as error:
                problem = str(error)
            if self._greeted_at is not None:
                outage_began, attempts, last_problem = None, 0, ""
                # A master that accepts us and breaks off each time is not dialed ever so often.
                if loop.time() - self._greeted_at >= self._persistence.longest_delay_s:
                    delays = self._delays()
            if problem != last_problem:
                log.warning("not connected to the master, trying again: %s", problem)
                last_problem = problem
            outage_began = loop.time() if outage_began is None else outage_began
            attempts += 1
            gives_up = 0 < self._persistence.max_attempts <= attempts
            await self._on_outage(loop.time() - outage_began, gives_up)
            if gives_up:
                raise MasterUnreachable(
                    f"gave up after {attempts} attempts to reach the master: {problem}"
                )
            delay_s = next(delays)
            if self._was_accepted and not self._is_registered:
                delay_s = max(delay_s, self._persistence.linger_s)
            await asyncio.sleep(delay_s)

    def _delays(self) -> Iterator[float]:
        limit_s = self._persistence.longest_delay_s
        return backoff_delays_s(first_s=min(0.5, limit_s), limit_s=limit_s)

    async def _connect_once(self) -> None:
        """Dial, and serve the connection until the master closes it."""
        query = {**self._query, "reconnect": "true" if self._is_registered else "false"}
        endpoint = await self._find_endpoint()
        try:
            async with connect(endpoint, query, self._timing) as connection:
                self._was_accepted = True
                try:
                    await self._serve(connection)
                finally:
                    self.is_connected = False
                    if self._greeted_at is None:
                        self._note_record_ended()
            # An AgentShutdown is often overtaken by the close that follows it.
            self._note_record_ended()
        except MustRestart as error:
            raise MustRestart(
                str(error), record_may_linger=error.record_may_linger or self._may_linger()
            ) from error

    def _note_record_ended(self) -> None:
        self._record_ended_at = asyncio.get_running_loop().time()

    def _may_linger(self) -> bool:
        ended_at = self._record_ended_at
        now = asyncio.get_running_loop().time()
        return ended_at is not None and now - ended_at < self._persistence.linger_s

    async def _serve(self, connection: Connection) -> None:
        options = await self._wait_options(connection)
        greeting = self._agent.greet(options)
        await connection.send(encode_message(greeting.started))
        self._is_registered = True
        self._greeted_at = asyncio.get_running_loop().time()
        for message in greeting.missed:
            await connection.send(encode_message(message))
        self.is_connected = True
        log.info(
            "connected to the master",
            extra={"master_version": options.version, "cluster_id": options.cluster_id},
        )
        await first_ended(
            self._receive(connection),
            self._send(connection),
            self._ask_receipts(connection),
            connection.keep_alive(),
        )

    async def _wait_options(self, connection: Connection) -> MasterOptions:
        try:
            async with asyncio.timeout(self._timing.dial_s):
                text = await connection.receive()
        except TimeoutError as error:
            raise MasterUnreachable("the master did not say anything") from error
        if text is None:
            raise MasterUnreachable("the master closed the connection before its first message")
        try:
            message = await _parse(text)
        except UnreadableMessage as error:
            raise MasterUnreachable(
                f"the master's first message cannot be read: {error}"
            ) from error
        match message:
            case MasterOptions():
                return message
            case AgentShutdown():
                raise MustRestart(f"the master says: {message.message}", record_may_linger=True)
            case _:
                raise MasterUnreachable("the master did not begin with its options")

    async def _receive(self, connection: Connection) -> None:
        while (text := await connection.receive()) is not None:
            try:
                message = await _parse(text)
            except UnreadableMessage as error:
                log.error("message of the master ignored: %s", error)
                continue
            match message:
                case StartContainer() | SignalContainer():
                    self._obey(message)
                case AgentShutdown():
                    raise MustRestart(f"the master says: {message.message}", record_may_linger=True)
                case MasterOptions():
                    log.warning("options of the master ignored: they came before")

    def _obey(self, order: StartContainer | SignalContainer) -> None:
        try:
            self._agent.obey(order)
        except AgentError as error:
            log.error("order of the master ignored: %s", error)

    async def _send(self, connection: Connection) -> None:
        while True:
            entry = await self._outbox.take()
            await connection.send(entry.text)

    async def _ask_receipts(self, connection: Connection) -> None:
        asked = 0
        while True:
            await self._outbox.wait_sent(asked)
            asked = self._outbox.sent_number
            await connection.ping(asked)
            self._outbox.confirm(await connection.wait_receipt(asked))
            try:
                async with asyncio.timeout(self._persistence.receipt_interval_s):
                    await self._outbox.wait_half_sent()
            except TimeoutError:
                continue


async def _parse(text: str | bytes) -> MasterMessage:
    """Read a message, a big one in a thread: JSON of many megabytes takes its time."""
    if len(text) < _BIG_MESSAGE_BYTES:
        return parse_message(text)
    return await asyncio.to_thread(parse_message, text)
