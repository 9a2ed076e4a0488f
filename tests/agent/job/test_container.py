"""A notice that comes while the image is still on its way."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import ImageNotFound
from shipway_agent.job.container import RankContainer, container_spec, exit_status
from shipway_agent.job.mps import with_mps
from shipway_agent.job.notices import Notices
from shipway_agent.job.rank import Rank
from shipway_agent.job.taskfile import TaskFile, parse_task_file
from shipway_agent.runtimes.spec import (
    ContainerId,
    ContainerSpec,
    Event,
    EventKind,
    Exit,
    Mount,
)
from tests.agent.job.conftest import make_task

SPEC = ContainerSpec(id=ContainerId("d-0"), image="registry.example/large", argv=("x",))


class SlowRegistry:
    """A runtime whose image takes for ever, or does not exist; nothing else of it is used."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.is_pulling = asyncio.Event()
        self.is_cancelled = False
        self._problem = problem

    async def pull(self, spec: ContainerSpec, on_event: Any) -> None:
        if self._problem is not None:
            raise self._problem
        on_event(Event(kind=EventKind.PULL_BEGAN, text=f"pulling {spec.image}"))
        on_event(Event(kind=EventKind.PULL_PROGRESS, text="Copying blob 1"))
        self.is_pulling.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise

    async def create(self, spec: ContainerSpec, on_event: Any) -> Any:
        raise AssertionError("it must not be made")


def make_container(
    runtime: Any, notices: Notices, *, terminates: bool, tells_pull: bool = False
) -> RankContainer:
    return RankContainer(
        runtime,
        SPEC,
        notices,
        terminates=terminates,
        keeps_usr1=False,
        on_running=lambda: pytest.fail("it never ran"),
        tells_pull=tells_pull,
        task_log=None,
    )


async def test_a_notice_during_the_pull_ends_the_job_as_term_would() -> None:
    runtime, notices = SlowRegistry(), Notices()
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        run = group.create_task(make_container(runtime, notices, terminates=True).run())
        await runtime.is_pulling.wait()
        notices.preempted.set()
    assert runtime.is_cancelled
    assert exit_status(run.result()) == 128 + signal.SIGTERM


async def test_a_notice_for_the_master_alone_lets_the_pull_go_on() -> None:
    runtime, notices = SlowRegistry(), Notices()
    run = asyncio.ensure_future(make_container(runtime, notices, terminates=False).run())
    async with asyncio.timeout(60):
        await runtime.is_pulling.wait()
    notices.preempted.set()
    await asyncio.sleep(0.05)
    assert not run.done()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


async def test_a_cancel_ends_the_pull_of_work_that_would_go_on() -> None:
    runtime, notices = SlowRegistry(), Notices()
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        run = group.create_task(make_container(runtime, notices, terminates=False).run())
        await runtime.is_pulling.wait()
        notices.preempted.set()
        notices.cancelled.set()
    assert runtime.is_cancelled
    assert exit_status(run.result()) == 128 + signal.SIGTERM


@pytest.mark.parametrize("tells_pull", [True, False], ids=["the first rank", "another"])
async def test_one_rank_says_how_far_the_image_is(
    capsys: pytest.CaptureFixture[str], *, tells_pull: bool
) -> None:
    runtime, notices = SlowRegistry(), Notices()
    container = make_container(runtime, notices, terminates=True, tells_pull=tells_pull)
    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        group.create_task(container.run())
        await runtime.is_pulling.wait()
        notices.preempted.set()
    lines = ["shipway: pulling registry.example/large", "shipway: Copying blob 1"]
    assert capsys.readouterr().err.splitlines() == (lines if tells_pull else [])


async def test_a_missing_image_is_told_in_the_registrys_words() -> None:
    runtime = SlowRegistry(ImageNotFound("manifest unknown"))
    with pytest.raises(ExceptionGroup) as raised:
        await make_container(runtime, Notices(), terminates=True).run()
    assert raised.group_contains(ImageNotFound, match="manifest unknown")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (Exit(code=3), 3),
        (Exit(code=137, signal=9), 137),
        (Exit(code=None, signal=15), 143),
        (Exit(code=None), None),
    ],
    ids=["code", "signal and code", "signal", "nobody knows"],
)
def test_the_exit_status_is_a_shells(end: Exit, status: int | None) -> None:
    assert exit_status(end) == status


def make_file(**changes: Any) -> TaskFile:
    return parse_task_file(
        json.dumps(make_task("http://relay", ["x"], **changes)).encode(), name="x"
    )


def make_spec(**changes: Any) -> ContainerSpec:
    task = make_file(image="org/x:1", **changes)
    return container_spec(task, Rank(number=0, peers=1, node="n1"), task.environment, None)


@pytest.mark.parametrize("prefix", ["SINGULARITY", "APPTAINER"])
@pytest.mark.parametrize("runtime", ["podman", "enroot"])
def test_the_masters_credentials_reach_other_runtimes_too(runtime: str, prefix: str) -> None:
    login = {f"{prefix}_DOCKER_USERNAME": "alice", f"{prefix}_DOCKER_PASSWORD": "pw"}
    auth = make_spec(runtime=runtime, environment=login).registry_auth
    assert auth is not None
    assert (auth.username, auth.password) == ("alice", "pw")
    assert make_spec(runtime=runtime).registry_auth is None
    assert make_spec(runtime="apptainer", environment=login).registry_auth is None


def test_a_container_gets_the_way_to_mps(tmp_path: Path) -> None:
    found = with_mps(SPEC, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert found.mounts == (Mount(source=str(tmp_path), target=str(tmp_path)),)
    assert with_mps(found, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}) == found
    for nothing in ("", "relative", str(tmp_path / "missing")):
        assert with_mps(SPEC, {"CUDA_MPS_PIPE_DIRECTORY": nothing}) == SPEC


def test_apptainer_gets_devices_as_far_as_they_can_be_had() -> None:
    devices = [
        {"host": "/dev/null", "container": "/dev/null"},
        {"host": "/dev/null", "container": "/dev/other"},
        {"host": "/dev/null", "container": "/opt/other"},
    ]
    spec = make_spec(runtime="apptainer", devices=devices)
    assert [device.container for device in spec.devices] == ["/dev/null"]
    assert [(mount.source, mount.target) for mount in spec.mounts] == [("/dev/null", "/opt/other")]
    assert len(make_spec(runtime="podman", devices=devices).devices) == 3
