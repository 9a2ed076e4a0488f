"""What the requests of the table are about: the owner's, and new for each row."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from shipway_master.auth import Authenticator
from shipway_master.store.database import opened
from tests.master.access.callers import OWNER_ID, Caller, Callers, make_callers
from tests.master.agents.standin import StandInAgent
from tests.master.running import MasterUnderTest

EXPERIMENT: Final[dict[str, Any]] = {
    "name": "an experiment",
    "entrypoint": "true",
    "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
    "resources": {"slots_per_trial": 1},
    "checkpoint_storage": {"type": "shared_fs", "host_path": "/tmp"},
}


@dataclass
class World:
    """A master with users, an agent, and a maker of things."""

    master: MasterUnderTest
    authenticator: Authenticator
    """Makes tokens beside the master."""
    callers: Callers
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    newest_project: int = 0

    async def fill_in(self, request: Any, made: dict[str, Any]) -> Any:
        """Replace each `$name` in a request by what it stands for, one thing for each name."""
        match request:
            case dict():
                return {key: await self.fill_in(value, made) for key, value in request.items()}
            case list():
                return [await self.fill_in(value, made) for value in request]
            case str() if request.startswith("$"):
                if request not in made:
                    made[request] = await _MAKERS[request](self)
                return made[request]
            case _:
                return request

    async def make_token(self, made: dict[str, Any]) -> str:
        """Make a token of the run of the row's task, or of any other run of the owner."""
        found = [made[name] for name in ("$allocation", *_TASKS) if name in made]
        thing: str = found[0] if found else await self.make_task("generic")
        run = thing if "." in thing else f"{thing}.1"
        return await self.authenticator.issue_allocation_token(run, owner_id=OWNER_ID)

    async def make_task(self, kind: str) -> str:
        """Start a task of the owner; return its id."""
        if kind == "generic":
            answer = await self._owner_does("/generic-tasks", {"config": "entrypoint: ['true']"})
            return str(answer["taskId"])
        answer = await self._owner_does(f"/{kind}s", {"config": {"entrypoint": ["true"]}})
        return str(answer[kind]["id"])

    async def make_tensorboard(self) -> str:
        """Start a TensorBoard of the owner; return its id."""
        body = {"trialIds": [await self.make_trial()]}
        return str((await self._owner_does("/tensorboards", body))["tensorboard"]["id"])

    async def make_job(self) -> str:
        """Start a command of the owner; return the id of its job."""
        answer = await self._owner_does("/commands", {"config": {"entrypoint": ["true"]}})
        return str(answer["command"]["jobId"])

    async def make_run(self) -> str:
        """Start a generic task of the owner; return the id of its first run."""
        return f"{await self.make_task('generic')}.1"

    async def make_access_token(self) -> int:
        """Make a token of the owner; return its id."""
        token_id: int = (await self._owner_does("/tokens", {"userId": OWNER_ID}))["tokenId"]
        return token_id

    async def make_template(self) -> str:
        """Make a template; return its name."""
        name = self.make_name()
        await self._owner_does(f"/templates/{name}", {"config": {}})
        return name

    async def make_workspace(self) -> int:
        """Make a workspace of the owner; return its id."""
        answer = await self._owner_does("/workspaces", {"name": self.make_name()})
        workspace_id: int = answer["workspace"]["id"]
        return workspace_id

    async def make_project(self) -> int:
        """Make a project of the owner in a workspace of his; return its id."""
        workspace_id = await self.make_workspace()
        path = f"/workspaces/{workspace_id}/projects"
        made = await self._owner_does(path, {"name": self.make_name()})
        self.newest_project = made["project"]["id"]
        return self.newest_project

    async def make_experiment(self, *, unmanaged: bool = True) -> int:
        """Make an experiment of the owner, of which nothing runs; return its id."""
        body = {
            "config": json.dumps(EXPERIMENT),
            "projectId": await self.make_project(),
            "unmanaged": unmanaged,
        }
        made = await self._owner_does("/experiments", body)
        experiment_id: int = made["experiment"]["id"]
        return experiment_id

    async def make_external_experiment(self) -> str:
        """Make an experiment of the owner that has a name of his own; return that."""
        name = self.make_name()
        body = {"config": json.dumps(EXPERIMENT), "unmanaged": True}
        answer = await self.master.call(
            "PUT", f"/experiments/by-external-id/{name}", body, token="user"
        )
        assert answer.status == 200, answer.body
        return name

    async def make_trial(self) -> int:
        """Make a trial of the owner that runs elsewhere; return its id."""
        body = {"experimentId": await self.make_experiment(), "unmanaged": True}
        trial_id: int = (await self._owner_does("/trials", body))["trial"]["id"]
        return trial_id

    async def find_task_of(self, trial_id: int) -> str:
        """Find the task of a trial."""
        answer = await self.master.call("GET", f"/trials/{trial_id}")
        return str(answer.json["trial"]["taskId"])

    async def make_checkpoint(self) -> str:
        """Report a checkpoint of a trial of the owner; return its UUID."""
        task_id = await self.find_task_of(await self.make_trial())
        checkpoint_id = str(uuid.uuid4())
        body = {"uuid": checkpoint_id, "taskId": task_id, "metadata": {"steps_completed": 1}}
        await self._owner_does("/checkpoints", body)
        return checkpoint_id

    async def make_model(self) -> str:
        """Make a model of the owner with one version; return its name."""
        name = self.make_name()
        await self._owner_does("/models", {"name": name})
        version = {"checkpointUuid": await self.make_checkpoint()}
        await self._owner_does(f"/models/{name}/versions", version)
        return name

    def make_name(self) -> str:
        """Make up a name that nothing has."""
        return f"name-{next(self.numbers)}"

    async def _owner_does(self, path: str, body: Any) -> dict[str, Any]:
        answer = await self.master.call("POST", path, body, token="user")
        assert answer.status == 200, answer.body
        made: dict[str, Any] = answer.json
        return made


def _task(kind: str) -> Callable[[World], Awaitable[Any]]:
    return lambda world: world.make_task(kind)


async def _name(world: World) -> str:
    return world.make_name()


async def _trial_task(world: World) -> str:
    return await world.find_task_of(await world.make_trial())


async def _uuid(_: World) -> str:
    return str(uuid.uuid4())


async def _experiment_config(_: World) -> str:
    return json.dumps(EXPERIMENT)


async def _managed(world: World) -> int:
    return await world.make_experiment(unmanaged=False)


async def _home(world: World) -> int:
    """The project of the trial that was made just before."""
    return world.newest_project


async def _owner(_: World) -> int:
    return OWNER_ID


_TASKS = ("$task", "$command", "$shell", "$notebook", "$tensorboard", "$generic")
_MAKERS: dict[str, Callable[[World], Awaitable[Any]]] = {
    "$task": _task("generic"),
    "$command": _task("command"),
    "$shell": _task("shell"),
    "$notebook": _task("notebook"),
    "$tensorboard": World.make_tensorboard,
    "$generic": _task("generic"),
    "$allocation": World.make_run,
    "$job": World.make_job,
    "$token": World.make_access_token,
    "$template": World.make_template,
    "$workspace": World.make_workspace,
    "$project": World.make_project,
    "$model": World.make_model,
    "$experiment": World.make_experiment,
    "$external_experiment": World.make_external_experiment,
    "$experiment_config": _experiment_config,
    "$managed": _managed,
    "$trial": World.make_trial,
    "$trial_task": _trial_task,
    "$checkpoint": World.make_checkpoint,
    "$home": _home,
    "$uuid": _uuid,
    "$name": _name,
    "$owner": _owner,
}


@asynccontextmanager
async def world_around(master: MasterUnderTest) -> AsyncGenerator[World]:
    """Fill a master with people, and an agent which starts nothing."""
    async with (
        opened(master.database_url) as database,
        StandInAgent(master.url, "agent-a", slots=2).connected(),
    ):
        authenticator = Authenticator(database)
        nobody_yet = Callers({}, stranger_id=0)
        first = World(master, authenticator, nobody_yet)
        sibling, strangers, ended = [await first.make_run() for _ in range(3)]
        callers = await make_callers(
            master,
            authenticator,
            sibling=sibling,
            trial=f"{await first.find_task_of(await first.make_trial())}.1",
            strangers=strangers,
            ended=ended,
        )
        yield World(master, authenticator, callers, first.numbers)


def token_for(world: World, caller: Caller, own: str) -> str | None:
    """Find the token of *caller*; *own* is the one of the run that the row is about."""
    return own if caller is Caller.SELF else world.callers.tokens[caller]
