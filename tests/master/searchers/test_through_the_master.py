"""A whole search through a running master: its trials are on an agent that the test plays."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from shipway_master.searchers.searcher import Searcher
from tests.master.agents.standin import StandInAgent, ack
from tests.master.asking import eventually, read_log
from tests.master.running import MasterUnderTest, Prepared, master_running
from tests.master.searchers.playing import Playing
from tests.master.searchers.sections import SEARCHER, make_space

SEED = 5
SPACE = {"x": {"type": "double", "minval": 0, "maxval": 1}}
SECTION = {
    "name": "adaptive_asha",
    "metric": "loss",
    "time_metric": "epochs",
    "max_time": 16,
    "max_trials": 16,
    "max_concurrent_trials": 4,
}
CONFIG = {
    "name": "a search",
    "entrypoint": "python3 train.py",
    "checkpoint_storage": {"type": "shared_fs", "host_path": "/tmp"},
    "hyperparameters": SPACE,
    "reproducibility": {"experiment_seed": SEED},
    "max_restarts": 0,
    "searcher": SECTION,
}
EPOCHS = (1, 4, 16)
"""When trials validate."""


def measure(x: float, epochs: int) -> dict[str, float]:
    """Tell how good a model is: the smaller x, the better in the end."""
    return {"loss": x + 1 / epochs, "epochs": epochs}


class PlayedTrial:
    """What the harness does in a container: train, validate, leave when it is asked to."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        words = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
        environment = dict(word.split("=", 1) for word in words)
        self.request_id = environment["DET_TASK_ID"].partition(".")[2]
        self.x = float(json.loads(environment["DET_HPARAMS"])["x"])
        self.epochs = 0
        self._id = int(environment["DET_TRIAL_ID"])
        self._run_id = int(environment["DET_TRIAL_RUN_ID"])
        self._allocation = environment["DET_ALLOCATION_ID"]
        self._token = environment["DET_SESSION_TOKEN"]

    async def train(
        self, master: MasterUnderTest, epochs: int, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Train so far, and report how good it is, or *metrics*."""
        self.epochs = epochs
        report = {
            "trialId": self._id,
            "trialRunId": self._run_id,
            "stepsCompleted": epochs * 100,
            "metrics": {"avgMetrics": metrics or measure(self.x, epochs)},
        }
        body = {"group": "validation", "metrics": report}
        path = f"/trials/{self._id}/metrics"
        answer = await master.call("POST", path, body, token=self._token)
        assert answer.status == 200, answer.body

    async def should_leave(self, master: MasterUnderTest) -> bool:
        """Ask for the preemption signal; who never does is killed instead."""
        path = f"/allocations/{self._allocation}/signals/preemption?timeoutSeconds=0"
        answer = await master.call("GET", path, token=self._token)
        asked: bool = answer.json["preempt"]
        return asked


async def wait_for_end(master: MasterUnderTest, number: int) -> dict[str, Any]:
    """Wait until the experiment has ended; return it."""

    async def look() -> dict[str, Any] | None:
        answer = await master.call("GET", f"/experiments/{number}")
        experiment: dict[str, Any] = answer.json["experiment"]
        return experiment if experiment["endTime"] else None

    return await eventually(look)


async def create(master: MasterUnderTest) -> int:
    """Create the experiment and let it run."""
    content = base64.b64encode(b"pass").decode()
    file = {"path": "train.py", "type": ord("0"), "content": content, "mode": 0o644}
    body = {"config": yaml.safe_dump(CONFIG), "activate": True, "modelDefinition": [file]}
    answer = await master.call("POST", "/experiments", body)
    assert answer.status == 200, answer.body
    number: int = answer.json["experiment"]["id"]
    return number


def foresee() -> dict[str, tuple[float, int]]:
    """Play the search without a master, one trial after another; give x and epochs of each."""
    playing = Playing(Searcher(SEARCHER.validate_python(SECTION), make_space(**SPACE), SEED))
    playing.begin()
    while playing.shutdown is None:
        trial = playing.live[0]
        for epochs in EPOCHS:
            playing.times[trial] = epochs
            playing.validate(trial, measure(playing.created[trial].hparams["x"], epochs))
            if trial in playing.stopping:
                break
        playing.end(trial)
    return {
        str(trial): (create.hparams["x"], playing.times[trial])
        for trial, create in playing.created.items()
    }


class PlayedNode:
    """An agent with one slot, so that one trial runs after another."""

    def __init__(self) -> None:
        self.agent = StandInAgent("", slots=1)
        self.trained: dict[str, tuple[float, int]] = {}
        """x and epochs of each trial that has ended."""
        self._running: tuple[dict[str, Any], PlayedTrial] | None = None

    def list_acks(self) -> list[Any]:
        """Tell a master that comes back what runs here."""
        return [ack(self._running[0], "RUNNING")] if self._running else []

    async def step(self, master: MasterUnderTest) -> None:
        """Start a trial, train one a bit more, or let it leave."""
        if self._running is None:
            start = await self.agent.next_start()
            self._running = (start, PlayedTrial(start))
            await self.agent.run(start)
        start, trial = self._running
        if await trial.should_leave(master):
            self.trained[trial.request_id] = (trial.x, trial.epochs)
            self._running = None
            await self.agent.end(start)
        else:
            await trial.train(master, next(one for one in EPOCHS if one > trial.epochs))


async def test_a_search_goes_as_foreseen_through_restarts_of_the_master(
    prepared: Prepared, tmp_path: Path
) -> None:
    node = PlayedNode()
    number = 0
    last = prepared
    experiment: dict[str, Any] = {}
    for steps in (4, 9, 1000):
        folder = tmp_path / f"{steps}-steps"
        async with master_running(last, folder) as master:
            node.agent.url, acks = master.url, node.list_acks()
            async with node.agent.connected(reconnect=bool(acks), acks=acks):
                number = number or await create(master)
                for _ in range(steps):
                    if len(node.trained) == SECTION["max_trials"]:
                        break
                    await node.step(master)
                else:
                    last = Prepared(folder, last.admin_token, last.user_token)
                    continue
            experiment = await wait_for_end(master, number)

    assert node.trained == foresee()
    assert experiment["state"] == "STATE_COMPLETED"
    assert experiment["progress"] == 1


async def test_a_search_without_its_time_fails_and_says_why(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url, slots=1)
    async with agent.connected():
        number = await create(master)
        start = await agent.next_start()
        await agent.run(start)
        trial = PlayedTrial(start)
        assert not await trial.should_leave(master)

        await trial.train(master, 1, {"loss": 0.5})

        assert await trial.should_leave(master)
        await agent.end(start)
        experiment = await wait_for_end(master, number)

    assert experiment["state"] == "STATE_ERROR"
    assert experiment["numTrials"] == SECTION["max_concurrent_trials"]
    log = await read_log(master, f"{number}.{trial.request_id}")
    said = "searcher.time_metric: each validation must have a finite number 'epochs'"
    assert any(said in line for line in log)
