"""The agent, the master or both are killed, at each moment of a task and at random ones."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time

from tests.lab.shipway import Agent
from tests.reliability.site import LAUNCH_BROKEN, Site

AGENTS = ("sandbox", "docker")
SEED = 20261


def _agents(site: Site) -> list[Agent]:
    return [site.agents[name] for name in AGENTS]


def test_the_agent_is_killed_at_three_moments(site: Site) -> None:
    moments = site.submit_three(*AGENTS)
    for agent in _agents(site):
        agent.kill()
    for agent in _agents(site):
        agent.launch()
    for three in moments:
        three.check_all_done()
    site.check_usable(*AGENTS)


def test_tasks_end_while_the_agent_is_dead(site: Site) -> None:
    works = [site.submit(name, exit_code=7) for name in AGENTS]
    for work in works:
        work.wait_for_start()
    for agent in _agents(site):
        agent.kill()
    for work in works:
        work.let_end()
    for work in works:
        work.wait_for_last_act()
    for agent in _agents(site):
        agent.launch()
    for work in works:
        work.check_done()
    site.check_usable(*AGENTS)


def test_the_master_is_killed_at_three_moments(site: Site) -> None:
    moments = site.submit_three(*AGENTS)
    site.master.kill()
    site.master.start()
    for three in moments:
        three.check_all_done()
    site.check_usable(*AGENTS)


def test_tasks_end_while_the_master_is_dead(site: Site) -> None:
    works = [site.submit(name, exit_code=7) for name in AGENTS]
    for work in works:
        work.wait_for_start()
    site.master.kill()
    for work in works:
        work.let_end()
    for work in works:
        work.wait_for_last_act()
    site.master.start()
    for work in works:
        work.check_done()
    site.check_usable(*AGENTS)


def test_the_master_is_killed_between_two_writes(site: Site) -> None:
    """It has stored that the run ended, and not yet that the task did: nothing runs twice."""
    work = site.submit("sandbox", exit_code=7)
    work.let_end()
    work.check_done()
    site.master.kill()
    with contextlib.closing(sqlite3.connect(site.master.data / "master.db")) as database, database:
        database.execute(
            "UPDATE tasks SET ended_at = NULL, state = 'ACTIVE', exit_status = ''"
            " WHERE task_id = ?",
            [work.task_id],
        )
    site.master.start()
    work.check_done()
    assert "exit code 7" in work.fetch_reason()
    site.check_usable(*AGENTS)


def test_both_are_killed_at_three_moments(site: Site) -> None:
    moments = site.submit_three(*AGENTS)
    for daemon in (site.master, *_agents(site)):
        daemon.kill()
    site.master.start()
    for agent in _agents(site):
        agent.launch()
    for three in moments:
        three.check_all_done()
    site.check_usable(*AGENTS)


def test_the_agent_is_killed_at_random_moments(site: Site) -> None:
    """A dozen kills within one task's life, some of them before the agent is up again."""
    chance = random.Random(SEED)
    long_ones = [site.submit(name, exit_code=3) for name in AGENTS]
    short_ones = []
    for work in long_ones:
        work.wait_for_start()
    for turn in range(12):
        if turn % 3 == 0:
            short_ones += [site.submit(name, exit_code=6) for name in AGENTS]
        time.sleep(chance.uniform(0, 0.8))
        for work in short_ones:
            work.let_end()
        for agent in _agents(site):
            agent.kill()
        for agent in _agents(site):
            agent.launch()
    for work in long_ones:
        work.let_end()
    for work in long_ones:
        work.check_done()
    for work in short_ones:
        work.check_done_or_failed(LAUNCH_BROKEN)
    site.check_usable(*AGENTS)


def test_the_master_is_killed_at_random_moments(site: Site) -> None:
    chance = random.Random(SEED)
    long_ones = [site.submit(name, exit_code=3) for name in AGENTS]
    short_ones = []
    for work in long_ones:
        work.wait_for_start()
    for _ in range(3):
        short_ones.append(site.submit("sandbox", exit_code=6))
        time.sleep(chance.uniform(0, 0.5))
        for work in short_ones:
            work.let_end()
        site.master.kill()
        site.master.start()
    for work in long_ones:
        work.let_end()
    for work in (*long_ones, *short_ones):
        work.check_done()
    site.check_usable(*AGENTS)


def test_a_killed_shim_is_a_failure_that_says_so(site: Site) -> None:
    """Nobody knows any more how the task ends; so it is ended, and its room is free again."""
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(20)
    for shim in site.shims("sandbox"):
        os.kill(shim, signal.SIGKILL)
    work.check_failed("process that held the container was killed")
    site.check_usable("sandbox")


def test_a_shim_killed_while_the_agent_is_dead(site: Site) -> None:
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(20)
    site.agents["sandbox"].kill()
    for shim in site.shims("sandbox"):
        os.kill(shim, signal.SIGKILL)
    site.agents["sandbox"].launch()
    work.check_failed("process that held the container was killed")
    site.check_usable("sandbox")


def test_an_agent_that_stays_away_is_given_up(site: Site) -> None:
    """The task's end at the master says so, and the agent ends the task when it is back."""
    work = site.submit("hasty", exit_code=3)
    work.wait_for_line(20)
    site.agents["hasty"].kill()
    site.wait_until_given_up("hasty")
    site.agents["hasty"].launch()
    work.check_failed("agent failed|agent closed")
    site.check_usable("hasty")
