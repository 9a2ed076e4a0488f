"""The wall clock is stepped under the agent and under the master, by an hour and by a day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import clocks
from tests.lab.clocks import Clock
from tests.lab.require import require
from tests.reliability.site import Site, open_site

HOUR_S = 3600
STEPS = (HOUR_S, -HOUR_S, 0, -24 * HOUR_S, 24 * HOUR_S, 0)


@pytest.fixture(scope="module")
def clock(folder: Path) -> dict[str, Clock]:
    """A clock for each daemon."""
    require("The clocks' test", clocks.missing())
    return {name: Clock(folder, name) for name in ("agent", "master")}


@pytest.fixture(scope="module")
def site(folder: Path, clock: dict[str, Clock]) -> Iterator[Site]:
    """A master and the agent `sandbox`, each with a clock of its own."""
    environment = clock["master"].environment
    with open_site(folder, {"sandbox": {}}, environment=environment, silence_limit_s=30) as site:
        patient = {"master_silence_s": 40}  # so that a loaded machine makes nobody look lost
        site.add("sandbox", environment=clock["agent"].environment, config=patient).launch()
        yield site


@pytest.fixture(autouse=True)
def _set_right(clock: dict[str, Clock]) -> Iterator[None]:
    yield
    for one in clock.values():
        one.step(0)


@pytest.mark.parametrize("whose", ["agent", "master", "both"])
def test_steps_of_the_clock(site: Site, clock: dict[str, Clock], whose: str) -> None:
    """No timer fires or stalls: the connection stays, lines keep coming and keep their order."""
    stepped = list(clock.values()) if whose == "both" else [clock[whose]]
    agent = site.agents["sandbox"]
    seen = len(agent.log.read_text())
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(10)
    for offset_s in STEPS:
        before = max(work.numbers())
        for one in stepped:
            one.step(offset_s)
        work.wait_for_line(before + 20)
        assert not site.is_away("sandbox")
    short = site.submit("sandbox", exit_code=5)
    short.let_end()
    short.check_done()
    work.let_end()
    work.check_done()
    assert "not connected to the master" not in agent.log.read_text()[seen:]
    site.check_usable()


def test_an_outage_during_which_the_clock_is_set_back(site: Site, clock: dict[str, Clock]) -> None:
    """Lines from before and after a restart of each side are in order, whatever time they carry."""
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(20)
    site.agents["sandbox"].kill()
    clock["agent"].step(-2 * HOUR_S)
    site.agents["sandbox"].launch()
    work.wait_for_more_lines()
    site.master.kill()
    clock["master"].step(-2 * HOUR_S)
    site.master.start()
    work.wait_for_more_lines()
    work.let_end()
    work.check_done()
    site.check_usable()


def test_an_agent_is_waited_for_by_true_time(site: Site, clock: dict[str, Clock]) -> None:
    """A day's step while the agent is away is not a day's wait."""
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(20)
    site.agents["sandbox"].kill()
    site.wait_until_away("sandbox")
    clock["master"].step(24 * HOUR_S)
    site.agents["sandbox"].launch()
    work.let_end()
    work.check_done()
    site.check_usable()
