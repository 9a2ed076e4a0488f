"""The master that is attacked: a process of its own, whose log and memory are looked at."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc.aio

from shipway_master.rpc import METHODS, Method
from tests.lab.shipway import Api, Master
from tests.master.agents.standin import StandInAgent
from tests.master.hostile import frames, rest
from tests.master.hostile.known import furnish, require_alive
from tests.master.hostile.values import Known

_AT_ONCE: Final = 8
_WORST: Final = 20
"""So many problems are reported; more of the same help nobody."""


@dataclass
class Target:
    """A furnished master and an administrator's token for it."""

    master: Master
    api: Api
    known: Known
    problems: list[str] = field(default_factory=list[str])
    answers: Counter[str] = field(default_factory=Counter[str])
    """How often which answer came."""

    @property
    def token(self) -> str:
        """The token of the attacks."""
        assert self.api.token is not None
        return self.api.token

    @property
    def memory_mib(self) -> float:
        """What the master holds of the machine's memory."""
        pages = int(Path(f"/proc/{self.master.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def errors(self) -> list[str]:
        """What the master's log has of tracebacks and of errors of its own."""
        lines = self.master.log.read_text(errors="replace").splitlines()
        return [line[:3000] for line in lines if "Traceback" in line or _is_error(line)]

    def require_sound(self) -> None:
        """Fail with all that went wrong, or if the master does not do its work any more."""
        found = [*self.problems[:_WORST], *self.errors()[:_WORST]]
        assert not found, "\n\n".join([f"{len(self.problems)} problems", *found])
        require_alive(self.api)

    @asynccontextmanager
    async def with_agent(self) -> AsyncGenerator[None]:
        """Have an agent whose containers run until they are killed."""
        async with StandInAgent(self.master.url, slots=64).connected() as agent:
            serving = asyncio.create_task(_serve(agent))
            try:
                yield
            finally:
                serving.cancel()
                await asyncio.wait([serving])

    async def attack_rest(self, rounds: int, *, seed: int) -> int:
        """Bend each RPC's request *rounds* times, over HTTP; return how many were sent."""

        async def one(method: Method, rng: random.Random) -> None:
            # Whoever logs out cannot go on.
            token = "wrong" if method.name == "Logout" else self.token
            attack = rest.make_attack(method, self.known, rng, token=token)
            try:
                verdict = await rest.send(self.master.port, attack)
            except TimeoutError:
                self.problems.append(f"no answer in {rest.ANSWER_LIMIT_S} s to {attack}")
                return
            self.answers[str(verdict and verdict.status)] += 1
            problem = None if verdict is None else verdict.problem(attack)
            if problem is not None:
                self.problems.append(f"{problem} to {attack}")

        return await _each_method(one, rounds, seed=seed)

    async def attack_grpc(self, rounds: int, *, seed: int) -> int:
        """Bend each RPC's request *rounds* times, over gRPC; return how many were sent."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.master.port}") as channel:

            async def one(method: Method, rng: random.Random) -> None:
                token = "wrong" if method.name == "Logout" else self.token
                frame = frames.make_frame(method, self.known, rng, token=token)
                code, problem = await frames.call(channel, frame)
                self.answers[code] += 1
                if problem is not None:
                    self.problems.append(f"{problem} to {frame}")

            return await _each_method(one, rounds, seed=seed)


_One = Callable[[Method, random.Random], Awaitable[None]]


async def _each_method(one: _One, rounds: int, *, seed: int) -> int:
    """Do *one* for each method *rounds* times, some at once, in an order made from *seed*."""
    rng = random.Random(seed)
    methods = [method for _ in range(rounds) for method in METHODS.values()]
    rng.shuffle(methods)
    work = iter([(method, random.Random(rng.random())) for method in methods])

    async def take_turns() -> None:
        for method, own_rng in work:
            await one(method, own_rng)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(take_turns())
    return len(methods)


async def _serve(agent: StandInAgent) -> None:
    starts: dict[str, dict[str, Any]] = {}

    async def start() -> None:
        while True:
            order = await agent.starts.get()
            starts[order["Container"]["id"]] = order
            await agent.run(order)

    async def kill() -> None:
        while True:
            order = starts.pop(await agent.kills.get(), None)
            if order is not None:
                await agent.end(order, 137)

    async with asyncio.TaskGroup() as group:
        group.create_task(start())
        group.create_task(kill())


def _is_error(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and str(entry.get("level", "")).lower() in ("error", "critical")


@contextmanager
def target_running(folder: Path, *, database_url: str | None = None) -> Generator[Target]:
    """Run a master, on a database of its own unless *database_url* is given, and furnish it."""
    database = {} if database_url is None else {"db": {"url": database_url}}
    master = Master(folder, {"log": {"format": "json"}, **database})
    master.start()
    try:
        api = master.login("admin")
        yield Target(master, api, furnish(api))
    finally:
        master.stop()
