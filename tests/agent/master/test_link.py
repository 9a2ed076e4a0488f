"""The link alone, with short limits, against masters that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from shipway_agent.config import AgentSettings
from shipway_agent.containers.state import State
from shipway_agent.errors import MasterUnreachable, MustRestart
from shipway_agent.master.connection import Endpoint, Timing
from shipway_agent.master.endpoint import make_endpoint
from shipway_agent.master.link import Greeting, MasterLink, Persistence
from shipway_agent.master.messages import (
    AgentStarted,
    Container,
    MasterOptions,
    SignalContainer,
    StartContainer,
    StateChanged,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.runtimes.spec import ContainerId
from tests.agent.conftest import HasPort
from tests.agent.master.peer import Peer, options, refusal
from tests.agent.stand_in import MUST_RESTART, StandInMaster

PATIENT = Timing(dial_s=30, ping_interval_s=0.1, silence_s=30, write_s=30, close_s=0.5)
HASTY = Timing(dial_s=2, ping_interval_s=0.1, silence_s=0.5, write_s=0.5, close_s=0.5)
"""For masters that do not do their part; a loaded machine may look like one of them."""


class Recorder:
    """Takes orders and remembers them."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.orders: list[StartContainer | SignalContainer] = []

    def greet(self, options: MasterOptions) -> Greeting:
        self._outbox.rewind(lambda message: True)
        started = AgentStarted(version="1", devices=(), reattached=(), resource_pool="default")
        return Greeting(started=started, missed=())

    def obey(self, order: StartContainer | SignalContainer) -> None:
        self.orders.append(order)


class Linked:
    """A link that runs, with what it is made of."""

    def __init__(
        self,
        master: HasPort,
        settings: AgentSettings | None = None,
        timing: Timing = PATIENT,
        **persistence: Any,
    ) -> None:
        self.outbox = Outbox(window_bytes=64 << 10)
        self.recorder = Recorder(self.outbox)
        self.ages: list[tuple[float, bool]] = []
        self._endpoint = Endpoint(url=URL(f"ws://127.0.0.1:{master.port}/agents"))
        if settings is not None:
            self._endpoint = make_endpoint(settings, {})
        self.link = MasterLink(
            query={"id": "a&b #1", "version": "1", "resource_pool": "default", "hostname": "h"},
            find_endpoint=self._find_endpoint,
            outbox=self.outbox,
            agent=self.recorder,
            persistence=Persistence(**{"longest_delay_s": 0.05, "linger_s": 0.2, **persistence}),
            timing=timing,
            on_outage=self._note,
        )

    async def _find_endpoint(self) -> Endpoint:
        return self._endpoint

    async def _note(self, age_s: float, gives_up: bool) -> None:
        self.ages.append((age_s, gives_up))


class Relay:
    """A way to the master that can become a black hole: bytes go in, nothing comes out."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._target = port
        self._frozen: list[asyncio.StreamWriter] = []
        self._open: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in (*self._open, *self._frozen):
            writer.transport.abort()
        await asyncio.wait(self._tasks)

    def freeze(self) -> None:
        """Let the connections that there are lead nowhere from now on."""
        self._frozen, self._open = self._open, []

    def let_the_master_notice(self) -> None:
        """Break the master's ends of the frozen connections."""
        for writer in self._frozen[1::2]:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._target)
        self._open += [writer, there[1]]
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.ensure_future(self._pass(source, sink))
            self._tasks.add(task)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if sink not in self._frozen:
                    sink.write(data)
            if sink not in self._frozen:
                sink.close()


@asynccontextmanager
async def running(master: HasPort, **persistence: Any) -> AsyncIterator[Linked]:
    linked = Linked(master, **persistence)
    task = asyncio.ensure_future(linked.link.run())
    try:
        yield linked
    finally:
        task.cancel()
        await asyncio.wait([task])


def end_of(container: str) -> StateChanged:
    return StateChanged(
        container=Container(id=ContainerId(container), state=State.TERMINATED, devices=())
    )


async def test_ids_of_any_characters_arrive_whole(master: StandInMaster) -> None:
    async with running(master):
        await master.connected()
    assert master.dials[0]["id"] == "a&b #1"


async def test_a_message_is_confirmed_once_the_master_has_read_it(master: StandInMaster) -> None:
    async with running(master) as linked:
        await master.connected()
        master.reads.clear()
        linked.outbox.put(end_of("a"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(linked.outbox.wait_empty(), 0.2)
        master.reads.set()
        await asyncio.wait_for(linked.outbox.wait_empty(), 60)
    assert master.containers["a"].has_ended


async def test_a_master_that_answers_no_pings_is_left(master: StandInMaster) -> None:
    master.answers_pings = False
    async with running(master, timing=HASTY):
        await master.connected(2)
    assert [dial["reconnect"] for dial in master.dials[:2]] == ["false", "true"]


async def test_the_former_connection_is_closed_before_the_next(master: StandInMaster) -> None:
    master.answers_pings = False
    async with running(master, timing=HASTY):
        await master.connected(3)
    # The stand-in refuses a second connection while the first is open, as the Go master does.
    assert len(master.dials) == len(master.hellos)


async def test_a_master_that_reads_nothing_is_left_and_told_later(master: StandInMaster) -> None:
    async with running(master, timing=HASTY) as linked:
        await master.connected()
        master.reads.clear()
        for number in range(20_000):
            linked.outbox.put(end_of(f"container {number} with a long name"))
        await master.until(lambda: len(master.dials) >= 2)
        master.reads.set()
        await asyncio.wait_for(linked.outbox.wait_empty(), 60)
    assert len(master.containers) == 20_000


async def test_orders_are_taken_while_the_outbox_is_full(master: StandInMaster) -> None:
    async with running(master) as linked:
        await master.connected()
        master.reads.clear()
        for number in range(5_000):
            linked.outbox.put(end_of(f"container {number}"))
        await master.signal("x", 9)
        async with asyncio.timeout(20):  # less than a write that leads nowhere is waited for
            while not linked.recorder.orders:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.01)
        master.reads.set()


async def test_a_close_by_the_master_means_dialing_again(master: StandInMaster) -> None:
    async with running(master):
        await master.connected()
        await master.close()
        await master.connected(2)


async def test_a_shutdown_ends_the_link_and_warns_of_lingering_timers(
    master: StandInMaster,
) -> None:
    linked = Linked(master)
    task = asyncio.ensure_future(linked.link.run())
    await master.connected()
    await master.send(AgentShutdown={"ErrMsg": MUST_RESTART})
    with pytest.raises(MustRestart) as caught:
        await task
    assert caught.value.record_may_linger


@pytest.mark.parametrize("was_closed", [True, False])
async def test_must_restart_after_a_close_is_a_shutdown_that_was_overtaken(
    master: StandInMaster, was_closed: bool
) -> None:
    linked = Linked(master, linger_s=5)
    task = asyncio.ensure_future(linked.link.run())
    await master.connected()
    master.refusals.append(web.json_response({"message": MUST_RESTART}, status=500))
    await (master.close() if was_closed else master.drop())
    with pytest.raises(MustRestart) as caught:
        await task
    assert caught.value.record_may_linger is was_closed


async def test_must_restart_after_a_break_before_the_greeting_may_leave_a_timer(
    peer: Peer,
) -> None:
    linked = Linked(peer, linger_s=5)
    task = asyncio.ensure_future(linked.link.run())
    wire = await peer.greeted(options())
    await wire.next()
    wire.abort()
    wire = await peer.dialed()
    peer.refusals.append(refusal(MUST_RESTART))
    wire.abort()  # before the master said anything
    with pytest.raises(MustRestart) as caught:
        await task
    assert caught.value.record_may_linger


async def test_a_master_that_accepts_and_hangs_up_is_an_outage_all_the_same(peer: Peer) -> None:
    linked = Linked(peer, max_attempts=4)
    task = asyncio.ensure_future(linked.link.run())
    wire = await peer.greeted(options())
    await wire.next()
    wire.abort()
    for _ in range(3):
        (await peer.dialed()).abort()
    with pytest.raises(MasterUnreachable, match="gave up after 4 attempts"):
        await task
    ages = [age_s for age_s, _ in linked.ages]
    assert ages == sorted(ages)
    assert ages[-1] > 0


async def test_a_connection_that_goes_nowhere_is_replaced_and_nothing_is_lost(
    master: StandInMaster,
) -> None:
    async with Relay(master.port) as relay, running(relay, timing=HASTY) as linked:
        await master.connected()
        relay.freeze()
        for number in range(100):
            linked.outbox.put(end_of(f"c{number}"))
        # As with the Go master, whose own limit is longer than ours, the dead one is still in place.
        await master.until(lambda: len(master.dials) >= 4)
        assert len(master.hellos) == 1
        relay.let_the_master_notice()
        await master.connected(2)
        await asyncio.wait_for(linked.outbox.wait_empty(), 60)
    assert list(master.containers) == [f"c{number}" for number in range(100)]
    assert {len(seen.states) for seen in master.containers.values()} == {1}


async def test_the_last_attempt_ends_the_link(master: StandInMaster) -> None:
    master.refusals.extend(web.json_response({"message": "no"}, status=500) for _ in range(9))
    linked = Linked(master, max_attempts=3)
    with pytest.raises(MasterUnreachable, match=r"gave up after 3 attempts.*500 no"):
        await linked.link.run()
    assert [gives_up for _, gives_up in linked.ages] == [False, False, True]
    assert len(master.dials) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 403, "text": "Forbidden"}, "client certificate"),
        ({"status": 404, "text": "x" * 5000}, "is this the address of a master"),
        (
            {"status": 500, "text": '{"message": "agent: websocket already connected"}'},
            "another agent with this id",
        ),
        ({"status": 200, "text": "[1, 2]"}, r"200 \[1, 2\]"),
    ],
    ids=["forbidden", "not found", "duplicate", "no master"],
)
async def test_a_refusal_says_what_to_do(
    master: StandInMaster, answer: dict[str, Any], words: str
) -> None:
    master.refusals.append(web.Response(**answer))
    with pytest.raises(MasterUnreachable, match=words):
        await Linked(master, max_attempts=1).link.run()


async def test_a_port_where_nobody_listens_is_told(master: StandInMaster) -> None:
    linked = Linked(master, max_attempts=1)
    await master.__aexit__()
    with pytest.raises(MasterUnreachable, match="cannot connect to"):
        await linked.link.run()


async def test_the_last_words_are_a_polite_close(master: StandInMaster) -> None:
    async with running(master):
        await master.connected()
    await master.until(lambda: master.close_code is not None)
    assert master.close_code == 1000


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for master.test, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=master.test", "-addext", "subjectAltName=DNS:master.test"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    file = folder / "both.pem"
    file.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return file


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ({"master_cert": True, "master_cert_name": "master.test"}, None),
        ({"skip_verify": True}, None),
        ({}, "is not trusted"),
        ({"master_cert": True}, "is not trusted.*127.0.0.1"),
        ({"master_cert": True, "master_cert_name": "other.test"}, "is not trusted.*other.test"),
    ],
    ids=["named", "unverified", "unknown", "other address", "other name"],
)
async def test_tls_verifies_the_master(
    certificate: Path, tls: dict[str, Any], problem: str | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if tls.get("master_cert"):
        tls = {**tls, "master_cert": certificate}
    async with StandInMaster(tls=context) as master:
        settings = AgentSettings.model_validate(
            {
                "master_host": "127.0.0.1",
                "master_port": master.port,
                "security": {"tls": {"enabled": True, **tls}},
            }
        )
        linked = Linked(master, settings, max_attempts=1)
        if problem:
            with pytest.raises(MasterUnreachable, match=problem):
                await linked.link.run()
            return
        task = asyncio.ensure_future(linked.link.run())
        await master.connected()
        task.cancel()
        await asyncio.wait([task])
