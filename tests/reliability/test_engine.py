"""The Docker engine is restarted, killed or away; a task's own runtime process is killed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from shipway_agent.runtimes.dockerforms import doubt_after_outage
from shipway_agent.runtimes.spec import Exit
from tests.lab import docker as docker_lab
from tests.lab.docker import Docker
from tests.lab.folders import command_of, new_folder, processes_of
from tests.lab.require import require
from tests.reliability.registry import slow_registry
from tests.reliability.site import LAUNCH_BROKEN, Site, open_site

NAMES = ("live", "plain")
ENGINE_WORDS = "docker|engine|container"


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Docker]]:
    """Two engines: `live` leaves containers alone when it ends, `plain` does not."""
    require("Docker", docker_lab.missing_programs())
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        made = {name: Docker(new_folder("docker"), live_restore=name == "live") for name in NAMES}
        for engine in made.values():
            stack.callback(engine.stop)
        list(pool.map(Docker.start, made.values()))
        yield made


@pytest.fixture(scope="module")
def site(folder: Path, engines: dict[str, Docker]) -> Iterator[Site]:
    """A master, and an agent for each engine."""
    with open_site(folder, {name: {} for name in NAMES}) as site:
        for name in NAMES:
            site.add(name, docker=engines[name]).launch()
        yield site


def _at_once(*acts: Callable[[], None]) -> None:
    """Do things beside each other that take a while, engines being slow."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(act) for act in acts]:
            done.result()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_the_engine_is_restarted(site: Site, engines: dict[str, Docker], kill: bool) -> None:
    """What the engine lets live goes on; what it ends is told as ended by it."""
    live, plain = site.submit_three(*NAMES)
    _at_once(
        lambda: engines["live"].restart(kill=kill), lambda: engines["plain"].restart(kill=kill)
    )
    for work in (live.starting, live.running, plain.starting, plain.running):
        work.let_end()
    # An engine that is stopped may lose the exit status of what ends just then, and last lines.
    live.ended.check_done_or_failed("the engine was away meanwhile", may_lose=True)
    plain.ended.check_done_or_failed("the engine was away meanwhile", may_lose=True)
    live.running.check_done(may_lose=kill)
    plain.running.check_failed(ENGINE_WORDS)
    live.starting.check_done_or_failed(ENGINE_WORDS, may_lose=kill)
    plain.starting.check_done_or_failed(ENGINE_WORDS, may_lose=True)
    site.check_usable()
    for name in NAMES:
        assert engines[name].run(["ps", "-aq"]).stdout == ""


def test_orders_come_while_the_engine_is_down(site: Site, engines: dict[str, Docker]) -> None:
    """They fail and name it, or are carried out when it is back; the agent lives."""
    engines["plain"].halt()
    work = site.submit("plain", exit_code=3)
    work.wait_for_word_or_end()
    engines["plain"].resume()
    work.let_end()
    work.check_done_or_failed(ENGINE_WORDS)
    site.check_usable("plain")


def test_the_agent_starts_while_the_engine_is_down(site: Site, engines: dict[str, Docker]) -> None:
    """It comes back when the engine does, and its task with it."""
    work = site.submit("live", exit_code=3)
    work.wait_for_line(10)
    agent = site.agents["live"]
    agent.kill()
    engines["live"].halt()
    agent.launch()
    site.wait_until_away("live")
    engines["live"].resume()
    site.start_again_until_there("live")
    work.let_end()
    work.check_done()
    site.check_usable("live")


def test_the_process_that_holds_a_container_is_killed(site: Site) -> None:
    """Without containerd's shim the engine ends the container, and says so."""
    works = {name: site.submit(name, exit_code=3) for name in NAMES}
    for work in works.values():
        work.wait_for_line(10)
    for name in NAMES:
        (shim,) = _containerd_shims(site, name)
        os.kill(shim, signal.SIGKILL)
    for work in works.values():
        work.check_failed("exit|container")
    site.check_usable()


def test_the_agent_is_killed_during_a_pull(site: Site) -> None:
    """The pull may be broken off; whether it is or not, it is told, and the next one works."""
    gate = threading.Event()
    with slow_registry(gate) as registry:
        work = site.submit("plain", exit_code=3, image=registry.image)
        registry.wait_until_asked_for_layer()
        site.agents["plain"].kill()
        site.agents["plain"].launch()
        gate.set()
        work.let_end()
        work.check_done_or_failed(LAUNCH_BROKEN)
        again = site.submit("plain", exit_code=4, image=registry.image)
        again.let_end()
        again.check_done()
    site.check_usable("plain")


def test_the_master_is_killed_during_a_pull(site: Site) -> None:
    gate = threading.Event()
    with slow_registry(gate) as registry:
        work = site.submit("plain", exit_code=3, image=registry.image)
        registry.wait_until_asked_for_layer()
        site.master.kill()
        site.master.start()
        gate.set()
        work.let_end()
        work.check_done()
    site.check_usable("plain")


def _containerd_shims(site: Site, name: str) -> list[int]:
    (socket,) = [one for one in site.agents[name].environment.values() if "docker.sock" in one]
    folder = Path(socket.removeprefix("unix://")).parent
    return [pid for pid in processes_of(folder) if b"containerd-shim" in command_of(pid)]


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Exit(code=255), "the engine was away meanwhile"),
        (Exit(code=255, reason="it said why"), "it said why"),
        (Exit(code=5), ""),
        (Exit(code=0), ""),
    ],
)
def test_an_exit_status_that_may_be_none_says_so(ended: Exit, words: str) -> None:
    told = doubt_after_outage(ended)
    assert told.code == ended.code
    assert words in told.reason
    assert bool(told.reason) is bool(words)
