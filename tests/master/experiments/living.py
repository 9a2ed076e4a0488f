"""A trial on an agent that the test plays, and what the tests of its life ask about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually
from tests.master.running import MasterUnderTest

CONFIG: Mapping[str, Any] = {
    "name": "a life",
    "entrypoint": "python3 train.py",
    "checkpoint_storage": {"type": "shared_fs", "host_path": "/tmp"},
    "hyperparameters": {},
    "searcher": {"name": "single", "metric": "loss"},
    "max_restarts": 1,
}


async def send(
    master: MasterUnderTest, verb: str, path: str, body: Any = None, **options: Any
) -> Any:
    """Call the API, which must answer well; return the answer."""
    answer = await master.call(verb, path, body, **options)
    assert answer.status == 200, answer.body
    return answer.json


async def create(master: MasterUnderTest, *, activate: bool = True, **changes: Any) -> int:
    """Create an experiment and return its id."""
    body = {"config": yaml.safe_dump({**CONFIG, **changes}), "activate": activate}
    number: int = (await send(master, "POST", "/experiments", body))["experiment"]["id"]
    return number


async def fetch_state(master: MasterUnderTest, number: int) -> str:
    """Return the state of an experiment, without its prefix."""
    experiment = (await send(master, "GET", f"/experiments/{number}"))["experiment"]
    return str(experiment["state"]).removeprefix("STATE_")


async def fetch_trials(master: MasterUnderTest, number: int) -> list[Any]:
    """Return the trials of an experiment, oldest first."""
    trials = (await send(master, "GET", f"/experiments/{number}/trials"))["trials"]
    return sorted(trials, key=lambda trial: int(trial["id"]))


async def wait_for_state(master: MasterUnderTest, number: int, *wanted: str) -> str:
    """Wait until an experiment is in one of the states; return it."""

    async def look() -> str | None:
        state = await fetch_state(master, number)
        return state if state in wanted else None

    return await eventually(look)


class PlayedTrial:
    """A container of a trial, from the order to start it on."""

    def __init__(self, master: MasterUnderTest, agent: StandInAgent, start: Any) -> None:
        self.agent, self.start = agent, start
        words = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
        self.environment = dict(word.split("=", 1) for word in words)
        self.id, self.run = (int(self.environment[f"DET_TRIAL_{one}ID"]) for one in ("", "RUN_"))
        self.task_id = self.environment["DET_TASK_ID"]
        self.container_id: str = start["Container"]["id"]
        self._master = master

    async def call(self, verb: str, path: str, body: Any = None) -> Any:
        """Call the API as the harness does."""
        token = self.environment["DET_SESSION_TOKEN"]
        return await send(self._master, verb, path, body, token=token)

    async def is_asked_to_leave(self) -> bool:
        """Ask for the preemption signal, as those do who want no kill."""
        path = f"/allocations/{self.environment['DET_ALLOCATION_ID']}/signals/preemption"
        asked: bool = (await self.call("GET", f"{path}?timeoutSeconds=0"))["preempt"]
        return asked

    async def leave(self) -> None:
        """Wait for the preemption signal, acknowledge it, and end well."""

        async def is_asked() -> bool:
            return await self.is_asked_to_leave()

        await eventually(is_asked)
        path = f"/allocations/{self.environment['DET_ALLOCATION_ID']}/signals/ack_preemption"
        await self.call("POST", path, {"allocationId": self.environment["DET_ALLOCATION_ID"]})
        await self.agent.end(self.start)

    async def save(self, uuid: str, *, steps: int) -> None:
        """Report a checkpoint."""
        body = {
            "uuid": uuid,
            "taskId": self.task_id,
            "allocationId": self.environment["DET_ALLOCATION_ID"],
            "state": "STATE_COMPLETED",
            "resources": {"model": "1"},
            "metadata": {"steps_completed": steps},
            "training": {},
        }
        await self.call("POST", "/checkpoints", body)


async def next_run(master: MasterUnderTest, agent: StandInAgent) -> PlayedTrial:
    """Wait for the next container of a trial, and let it run."""
    start = await agent.next_start()
    await agent.run(start)
    trial = PlayedTrial(master, agent, start)
    assert not await trial.is_asked_to_leave()
    return trial
