"""Disks fill up: the agent's state folder, the master's data folder, and under a task."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.disks import Disk
from tests.lab.docker import Docker
from tests.lab.processes import wait_until
from tests.lab.require import require
from tests.reliability.site import Site, open_site

NO_SPACE = "no space left|disk"


@pytest.fixture(scope="module")
def _may_mount() -> None:
    require("The disks' test", [] if os.geteuid() == 0 else ["the rights of root"])


@pytest.fixture(scope="module")
def disks(folder: Path, _may_mount: None) -> Iterator[dict[str, Disk]]:
    """Small disks for the state of two agents and for the master's data."""
    made = {
        "sandbox": Disk(folder / "sandbox-state", size_kib=8192),
        "docker": Disk(folder / "docker-state", size_kib=8192),
        "master": Disk(folder / "master", size_kib=16384),
    }
    with ExitStack() as stack:
        for disk in made.values():
            disk.mount()
            stack.callback(disk.unmount)
        yield made


@pytest.fixture(scope="module")
def site(folder: Path, disks: dict[str, Disk], docker: Docker) -> Iterator[Site]:
    """A master and the agents `sandbox` and `docker`, each on a small disk."""
    with open_site(folder, {"sandbox": {}, "docker": {}}) as site:
        site.add("sandbox").launch()
        site.add("docker", docker=docker).launch()
        site.wait_until_free()
        yield site
        for disk in disks.values():
            disk.free()


@pytest.mark.parametrize("name", ["sandbox", "docker"])
def test_the_agents_disk_is_full_for_a_while(site: Site, disks: dict[str, Disk], name: str) -> None:
    (moments,) = site.submit_three(name)
    disks[name].fill()
    while_full = site.submit(name, exit_code=8)
    while_full.wait_for_word_or_end()
    moments.running.wait_for_more_work()
    disks[name].free()
    for work in (moments.starting, moments.running, while_full):
        work.let_end()
    moments.running.check_done()
    moments.ended.check_done()
    moments.starting.check_done_or_failed(NO_SPACE)
    while_full.check_done_or_failed(NO_SPACE)
    site.check_usable(name)


@pytest.mark.parametrize("name", ["sandbox", "docker"])
def test_a_task_ends_and_the_agent_restarts_while_the_disk_is_full(
    site: Site, disks: dict[str, Disk], name: str
) -> None:
    work = site.submit(name, exit_code=7)
    work.wait_for_line(20)
    disks[name].fill()
    work.let_end()
    work.wait_for_last_act()
    agent = site.agents[name]
    agent.kill()
    agent.launch()
    site.wait_until_away(name)
    disks[name].free()
    site.start_again_until_there(name)
    work.check_done()
    site.check_usable(name)


def test_the_agent_cannot_start_on_a_full_disk_and_says_why(
    site: Site, disks: dict[str, Disk]
) -> None:
    agent = site.agents["sandbox"]
    agent.stop()
    disks["sandbox"].fill()
    seen = len(agent.log.read_text())
    agent.launch()
    wait_until(
        lambda: "No space left" in agent.log.read_text()[seen:],
        "the agent says what is wrong",
        limit_s=60,
        logs=agent.tail,
    )
    assert str(agent.state) in agent.log.read_text()[seen:]
    disks["sandbox"].free()
    site.start_again_until_there("sandbox")
    site.check_usable("sandbox")


def test_the_masters_disk_is_full_for_a_while(site: Site, disks: dict[str, Disk]) -> None:
    moments = site.submit_three("sandbox", "docker")
    disks["master"].fill()
    for three in moments:
        three.running.wait_for_more_work()
        three.running.let_end()
        three.running.wait_for_last_act()
    resources = {"slots": 1, "resource_pool": "sandbox"}
    big = {"entrypoint": ["true"], "description": "x" * 300_000, "resources": resources}
    order = {"config": big}
    answers = [site.api.send("POST", "/api/v1/commands", order)[0] for _ in range(10)]
    disks["master"].free()
    assert set(answers) <= {200, 503}  # there may be some room in the database's own file
    assert answers[-1] == 503  # clients try again
    for three in moments:
        three.check_all_done(or_not_started=NO_SPACE)
    site.check_usable()


def test_the_master_is_killed_on_a_full_disk(site: Site, disks: dict[str, Disk]) -> None:
    work = site.submit("sandbox", exit_code=7)
    work.wait_for_line(20)
    disks["master"].fill()
    work.let_end()
    work.wait_for_last_act()
    site.master.kill()
    site.master.launch()
    disks["master"].free()
    site.master.start_again_until(lambda: site.api.is_there("/info"), "it answers")
    work.check_done()
    site.check_usable()


def test_a_task_that_fills_the_disk_fails_by_itself(site: Site, disks: dict[str, Disk]) -> None:
    """Its folder lies on the agent's disk; it is told in its own words, and the room comes back."""
    command = "echo before; sleep 1; dd if=/dev/zero of=filler bs=64k; echo status $?; exit 6"
    beside = site.submit("sandbox", exit_code=3)
    beside.wait_for_start()
    task_id = site.submit_raw("sandbox", command)
    task = site.wait_for_end(task_id)
    assert task["allocations"][0]["statusCode"] == 6
    log = site.fetch_log(task_id)
    assert "before" in log, log
    assert "status 1" in log
    assert any("No space left" in line for line in log)
    beside.let_end()
    beside.check_done()
    site.check_usable("sandbox")
    assert disks["sandbox"].free_bytes > 6 << 20
