"""A master with agents, and what must be true of them after each fault."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.docker import Docker
from tests.lab.folders import command_of, processes_of
from tests.lab.processes import end, tails, wait_until
from tests.lab.shipway import Agent, Api, Master
from tests.reliability.work import LIMIT_S, Work, submit

PROMPT = {"agent_reconnect_backoff": 0.3, "registration_pause_s": 5, "master_silence_s": 4}
"""Settings of an agent that is in a hurry."""

LAUNCH_BROKEN = "while it launched the container"
"""What is said of a command whose start the agent's death broke off."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Three commands of one agent, each at another moment of its life."""

    starting: Work
    running: Work
    ended: Work

    def check_all_done(self, *, or_not_started: str = LAUNCH_BROKEN) -> None:
        """Check that all three ended as they meant to.

        The one that was being started may have failed instead, in words that match.
        """
        for work in (self.starting, self.running):
            work.let_end()
        for work in (self.running, self.ended):
            work.check_done()
        self.starting.check_done_or_failed(or_not_started)


class Site:
    """A master in a hurry and its agents, each alone in the pool of its name."""

    def __init__(
        self,
        folder: Path,
        pools: Mapping[str, Mapping[str, Any]],
        *,
        environment: Mapping[str, str] | None = None,
        silence_limit_s: int = 3,
    ) -> None:
        """Prepare a master with *pools*: name → what is not as in the others.

        An agent that says nothing for *silence_limit_s* is taken for lost.
        """
        self.folder = folder
        self.agents: dict[str, Agent] = {}
        config = {
            "host": "0.0.0.0",  # for agents on other machines
            "resource_manager": {
                "type": "agent",
                "agent_reconnect_wait": "60s",
                "agent_silence_limit": f"{silence_limit_s}s",
            },
            "resource_pools": [{"pool_name": name, **own} for name, own in pools.items()],
        }
        self.master = Master(folder, config, environment=environment)
        self._images: dict[str, str] = {}
        self.api = Api(self.master.url)

    def start(self) -> None:
        """Start the master."""
        self.master.start()
        self.api = self.master.login()

    def stop_agents(self) -> None:
        """Stop all agents; what still runs there is left to itself."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Agent.stop, self.agents.values()))

    def add(self, name: str, *, docker: Docker | None = None, **options: Any) -> Agent:
        """Add an agent in the pool of its name; *options* are those of the lab's Agent."""
        config = {**PROMPT, **options.pop("config", {})}
        if docker is not None:
            options |= {"runtime": "docker", "environment": docker.environment}
            self._images[name] = docker.image
        agent = Agent(self.folder, self.master, agent_id=name, pool=name, config=config, **options)
        self.agents[name] = agent
        return agent

    def submit_three(self, *pools: str) -> list[Moments]:
        """Have each pool start one command, run another, and end a third, at this moment."""
        running = [self.submit(pool, exit_code=3) for pool in pools]
        ending = [self.submit(pool, exit_code=5) for pool in pools]
        for work in (*running, *ending):
            work.wait_for_line(10)
        for work in ending:
            work.let_end()
        for work in ending:
            work.wait_for_last_act()
        starting = [self.submit(pool, exit_code=4) for pool in pools]
        return [
            Moments(starting=one, running=two, ended=three)
            for one, two, three in zip(starting, running, ending, strict=True)
        ]

    def make_double(self, name: str, *, agent_id: str) -> Agent:
        """Return an agent of another id on the state folder of an agent."""
        config = {**PROMPT, "state_dir": str(self.agents[name].state)}
        return Agent(self.folder, self.master, agent_id=agent_id, pool="other", config=config)

    def submit_raw(self, pool: str, command: str) -> str:
        """Submit a command for /bin/sh and return its id."""
        config = {"entrypoint": [command], "resources": {"slots": 1, "resource_pool": pool}}
        return str(self.api.call("POST", "/api/v1/commands", {"config": config})["command"]["id"])

    def wait_for_end(self, task_id: str) -> Any:
        """Wait until a task has ended and return it."""

        def fetch() -> Any:
            return self.api.call("GET", f"/api/v1/tasks/{task_id}")["task"]

        wait_until(
            lambda: fetch().get("endTime"), f"{task_id} ended", limit_s=LIMIT_S, logs=self.logs
        )
        return fetch()

    def fetch_log(self, task_id: str) -> list[str]:
        """Return the lines of a task's log at the master."""
        return [
            line["log"].rstrip("\n") for line in self.api.lines(f"/api/v1/tasks/{task_id}/logs")
        ]

    def submit(self, pool: str, *, exit_code: int = 0, **options: Any) -> Work:
        """Submit a command to the agent of the pool."""
        options.setdefault("image", self._images.get(pool, ""))
        return submit(
            self.api, self.folder, pool=pool, exit_code=exit_code, logs=self.logs, **options
        )

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        text = tails([self.master.log, *(agent.log for agent in self.agents.values())], lines=40)
        return "\n".join(line[:300] for line in text.splitlines())

    def agent(self, name: str) -> Any:
        """Return an agent as the master shows it, or None."""
        found = self.api.call("GET", "/api/v1/agents")["agents"]
        return next((agent for agent in found if agent["id"] == name), None)

    def is_free(self, name: str) -> bool:
        """Say whether the master shows the agent as usable and with nothing on it."""
        agent = self.agent(name)
        return (
            agent is not None
            and agent["enabled"]
            and not agent["draining"]
            and not agent["containers"]
            and all(
                slot["container"] is None and slot["enabled"] for slot in agent["slots"].values()
            )
        )

    def is_away(self, name: str) -> bool:
        """Say whether the master has noticed that the agent is not connected."""
        agent = self.agent(name)
        return agent is None or not agent["enabled"]

    def wait_until_away(self, name: str) -> None:
        """Wait until the master has noticed that the agent is not connected."""
        self._wait(name, lambda: self.is_away(name), "is away")

    def start_again_until_there(self, name: str) -> None:
        """Have an agent started again, if it ends by itself, until it is connected."""
        self.agents[name].start_again_until(lambda: not self.is_away(name), "it is there")

    def wait_until_given_up(self, name: str) -> None:
        """Wait until the master does not wait for the agent any more."""
        self._wait(name, lambda: self.agent(name) is None, "is given up")

    def wait_until_free(self, *names: str) -> None:
        """Wait until these agents are free, all of them if none is named."""
        for name in names or tuple(self.agents):
            self._wait(name, partial(self.is_free, name), "is free")

    def check_usable(self, *names: str) -> None:
        """Check that these agents are free, take new work at once, and keep nothing of the old."""
        names = names or tuple(self.agents)
        self.wait_until_free(*names)
        works = [self.submit(name, exit_code=9) for name in names]
        for work in works:
            work.let_end()
        for work in works:
            work.check_done()
        self.wait_until_free(*names)
        for name in names:
            self._wait(name, partial(self._has_forgotten, name), "has forgotten what has ended")

    def _has_forgotten(self, name: str) -> bool:
        return not self.leftovers(name) and not self.shims(name)

    def _wait(self, name: str, is_true: Callable[[], bool], what: str) -> None:
        def details() -> str:
            return "\n".join([str(self.agent(name)), *self.leftovers(name), self.logs()])

        wait_until(is_true, f"{name} {what}", limit_s=LIMIT_S, interval_s=0.1, logs=details)

    def shims(self, name: str) -> list[int]:
        """Return the processes that hold the tasks of an agent."""
        return [
            pid
            for pid in processes_of(self.agents[name].state)
            if b"shipway_agent.shim" in command_of(pid)
        ]

    def leftovers(self, name: str) -> list[str]:
        """Return the files that an agent keeps about containers."""
        state = self.agents[name].state
        below = ((folder, files) for folder, _, files in os.walk(state) if folder != str(state))
        return [f"{folder}/{file}" for folder, files in below for file in files]


@contextlib.contextmanager
def open_site(
    folder: Path, pools: Mapping[str, Mapping[str, Any]], **options: Any
) -> Iterator[Site]:
    """Start a master with its state in *folder*, and end it and its agents afterwards."""
    site = Site(folder, pools, **options)
    with ExitStack() as stack:
        stack.callback(lambda: end(processes_of(folder)))  # of a test that failed
        stack.callback(site.master.stop)
        site.start()
        stack.callback(site.stop_agents)
        yield site
