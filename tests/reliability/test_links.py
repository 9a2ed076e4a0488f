"""A side stands still, or the network between master and agent is cut, in each of its ways."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.networks import Bridge, Host, missing_tools
from tests.lab.processes import wait_until
from tests.lab.require import require
from tests.lab.shipway import frozen
from tests.reliability.site import PROMPT, Site, open_site
from tests.reliability.work import Work

CUTS = ("unplugged", "black-hole", "deaf", "mute", "broken", "frozen")
"""No carrier; packets vanish both ways, only inwards, only outwards; only the agent hears of it;
the agent stands still (SIGSTOP)."""

LOST = ("hasty-unplugged", "hasty-black-hole", "hasty-frozen")
"""Agents of pools that wait 2 s for them."""


class Net:
    """The site, and the machine that each agent is on."""

    def __init__(self, site: Site, hosts: dict[str, Host]) -> None:
        self.site, self.hosts = site, hosts

    def cut(self, name: str) -> None:
        """Cut the agent off in the way that its name says."""
        host = self.hosts[name]
        match name.removeprefix("hasty-"):
            case "unplugged":
                host.unplug()
            case "black-hole":
                host.drop("INPUT", "OUTPUT")
            case "deaf":
                host.drop("INPUT")
            case "mute":
                host.drop("OUTPUT")
            case "broken":
                host.drop("OUTPUT")
                host.break_connections(self.site.master.port)
            case "frozen":
                os.kill(self.site.agents[name].pid, signal.SIGSTOP)

    def heal(self, name: str) -> None:
        """Undo the cut."""
        self.hosts[name].plug()
        self.hosts[name].heal()
        os.kill(self.site.agents[name].pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def net(folder: Path) -> Iterator[Net]:
    """A master, and agents on machines of their own."""
    require("The network's test", missing_tools())
    names = (*CUTS, *LOST)
    pools = {name: {"agent_reconnect_wait": "2s"} if name in LOST else {} for name in names}
    hosts: dict[str, Host] = {}
    with ExitStack() as stack:
        bridge = Bridge()
        stack.callback(bridge.stop)
        bridge.start()
        site = stack.enter_context(open_site(folder, pools))
        for number, name in enumerate(names, start=2):
            host = hosts[name] = Host(bridge, number)
            stack.callback(host.stop)
            host.start()
            config = {**PROMPT, "registration_pause_s": 3, "master_host": bridge.address}
            site.add(name, within=host.within, config=config).launch()
        site.wait_until_free()
        yield Net(site, hosts)


def test_a_short_cut_of_any_kind_costs_nothing(net: Net) -> None:
    """Longer than the silence after which a connection is given up, shorter than the wait."""
    site = net.site
    ending = [site.submit(name, exit_code=5) for name in CUTS]
    running = [site.submit(name, exit_code=3) for name in CUTS]
    for work in (*ending, *running):
        work.wait_for_line(10)
    starting = [site.submit(name, exit_code=4) for name in CUTS]
    for name in CUTS:
        net.cut(name)
    for work in ending:
        work.let_end()
    for work in ending:
        work.wait_for_last_act()
    for name in CUTS:
        if name != "broken":
            site.wait_until_away(name)
    for name in CUTS:
        net.heal(name)
    for work in (*starting, *running):
        work.let_end()
    for work in (*ending, *running, *starting):
        work.check_done()
    site.check_usable(*CUTS)


def test_a_blink_is_not_noticed(net: Net) -> None:
    site = net.site
    work = site.submit("black-hole", exit_code=3)
    work.wait_for_line(10)
    net.cut("black-hole")
    net.heal("black-hole")
    work.let_end()
    work.check_done()
    site.check_usable("black-hole")


def test_a_cut_longer_than_the_wait_ends_the_tasks(net: Net) -> None:
    """The master gives them up and says why; the agent, back again, ends what it still has."""
    site = net.site
    works = [site.submit(name, exit_code=3) for name in LOST]
    for work in works:
        work.wait_for_line(10)
    for name in LOST:
        net.cut(name)
    for name in LOST:
        site.wait_until_given_up(name)
    for name in LOST:
        net.heal(name)
    for work in works:
        work.check_failed("agent failed while the container was running")
    site.check_usable(*LOST)


def test_the_master_stands_still(net: Net) -> None:
    """The agents give their connections up, and their tasks notice nothing."""
    site = net.site
    (moments,) = site.submit_three("frozen")
    agent = site.agents["frozen"]
    seen = len(agent.log.read_text())

    def has_noticed() -> bool:
        return "not connected to the master" in agent.log.read_text()[seen:]

    with frozen(site.master.pid):
        wait_until(has_noticed, "the agent notices", limit_s=60, logs=agent.tail)
    moments.starting.wait_for_start()
    moments.check_all_done()
    site.check_usable("frozen")


def test_many_tasks_end_during_one_outage(net: Net) -> None:
    """More than the original remembers (32): each end is told with its own code, afterwards."""
    site = net.site
    site.agents["frozen"].wait_until(lambda: site.is_free("frozen"), "is free")
    codes = range(1, 35)
    works: list[Work] = [
        site.submit("frozen", exit_code=code, slots=0, pause_s=0.5) for code in codes
    ]
    for work in works:
        work.wait_for_start()
    with frozen(site.master.pid):
        for work in works:
            work.let_end()
        for work in works:
            work.wait_for_last_act()
    for work in works:
        work.check_done()
    site.check_usable("frozen")
