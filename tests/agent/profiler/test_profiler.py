"""A task's metrics: read on this machine and from a stand-in driver, posted over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from google.protobuf import json_format

from shipway_agent.profiler.gpus import GpuReader
from shipway_agent.profiler.readings import Series
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.profiler.samples import Samples
from shipway_agent.profiler.task import ProfilerTiming, TaskProfiler, profiled_trial
from shipway_agent.runtimes.processes import identify
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Processes
from shipway_agent.taskapi import TaskApi
from shipway_proto.determined.api.v1.trial_pb2 import PostTrialProfilerMetricsBatchRequest
from tests.agent.job.conftest import eventually
from tests.agent.job.stand_in import TOKEN, StandInRelay
from tests.agent.profiler.driver import Driver

PATH = "/api/v1/trials/profiler/metrics"
FAST = ProfilerTiming(post_s=0.1)
TASK = ContainerId("c-1")


async def find_own_process(handle: ContainerHandle) -> Processes:
    """This process in the place of a task's: it is there, and it works."""
    own = identify(os.getpid())
    assert own is not None
    return Processes(first=own)


class Looks:
    """One task that runs, and how often it was looked at."""

    def __init__(self) -> None:
        self._begun = 0

    def list_running(self) -> list[ContainerHandle]:
        self._begun += 1
        return [ContainerHandle(container_id=TASK, native_id="none")]

    async def come_to(self, count: int) -> None:
        """Wait until that many looks are over."""
        await eventually(lambda: self._begun > count)


@contextlib.asynccontextmanager
async def profiling(
    relay: StandInRelay,
    *,
    gpus: tuple[str, ...] = (),
    driver: Driver | None = None,
    timing: ProfilerTiming = FAST,
    interval_s: float = 0.05,
) -> AsyncIterator[Looks]:
    looks = Looks()
    sampler = Sampler(
        list_running=looks.list_running,
        find_processes=find_own_process,
        gpus=GpuReader(driver.environ) if driver is not None else None,
        interval_s=interval_s,
    )
    async with (
        TaskApi(relay.url, TOKEN) as api,
        sampler,
        TaskProfiler(
            api,
            sampler,
            trial_id=9,
            agent_id="n1",
            container_id=TASK,
            gpus=gpus,
            timing=timing,
        ),
    ):
        yield looks


def series(relay: StandInRelay) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for body in relay.bodies("profiler/metrics"):
        for batch in body["batches"]:
            labels = batch["labels"]
            found.setdefault((labels["name"], labels["gpuUuid"]), []).extend(batch["values"])
    return found


async def test_a_task_is_told_by_the_names_of_the_contract(relay: StandInRelay) -> None:
    async with profiling(relay):
        await eventually(lambda: ("cpu_util_simple", "") in series(relay))
        await eventually(lambda: ("disk_throughput_read", "") in series(relay))
    found = series(relay)
    assert {name for name, _ in found} == {
        "cpu_util_simple",
        "memory_free",
        "disk_util",
        "disk_throughput_read",
        "disk_throughput_write",
    }
    assert all(0 <= value <= 100 for value in found["cpu_util_simple", ""])
    assert all(value > 1 << 20 for value in found["memory_free", ""])


async def test_a_post_is_the_masters_own_message(relay: StandInRelay) -> None:
    async with profiling(relay):
        await eventually(lambda: relay.posts)
    path, body = relay.posts[0]
    assert path == PATH
    message = json_format.ParseDict(body, PostTrialProfilerMetricsBatchRequest())
    for batch in message.batches:
        assert (batch.labels.trial_id, batch.labels.agent_id) == (9, "n1")
        assert len(batch.values) == len(batch.timestamps) == len(batch.batches)
        times = [stamp.ToDatetime() for stamp in batch.timestamps]
        assert times == sorted(times)
        assert batch.labels.metric_type == batch.labels.PROFILER_METRIC_TYPE_SYSTEM


async def test_gpus_are_read_by_uuid_or_index(relay: StandInRelay, driver: Driver) -> None:
    driver.says(BUSY0=7, BUSY1=93)
    async with profiling(relay, gpus=("GPU-1", "0"), driver=driver):
        await eventually(lambda: {("gpu_util", "GPU-0"), ("gpu_util", "GPU-1")} <= {*series(relay)})
    found = series(relay)
    assert set(found["gpu_util", "GPU-0"]) == {7}
    assert set(found["gpu_util", "GPU-1"]) == {93}
    assert set(found["gpu_free_memory", "GPU-1"]) == {5 << 30}
    assert set(found["gpu_used_memory", "GPU-1"]) == {3 << 30}
    assert set(found["gpu_temperature", "GPU-0"]) == {66}
    assert set(found["gpu_power", "GPU-0"]) == {100.5}


async def test_without_nvml_the_rest_goes_on(
    relay: StandInRelay, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.says(INIT=9)
    async with profiling(relay, gpus=("0",), driver=driver):
        await eventually(lambda: ("memory_free", "") in series(relay))
        await eventually(lambda: "no GPU metrics: NVML says error 9" in caplog.text)
    assert not any(uuid for _, uuid in series(relay))


async def test_metrics_of_an_outage_come_after_it(relay: StandInRelay) -> None:
    relay.refuse[PATH] = [503] * 10_000
    async with profiling(relay) as looks:
        await looks.come_to(6)
        relay.refuse[PATH].clear()
        await eventually(lambda: relay.posts)
    first = relay.posts[0][1]["batches"][0]
    assert len(first["values"]) > 3


async def test_a_refusal_of_the_token_ends_the_posts_and_nothing_else(
    relay: StandInRelay, caplog: pytest.LogCaptureFixture
) -> None:
    relay.refuse[PATH] = [401] * 100
    async with profiling(relay):
        await eventually(lambda: "refused metrics" in caplog.text)
        await asyncio.sleep(0.3)
    assert caplog.text.count("refused metrics") == 1


async def test_the_last_readings_are_posted_at_the_end(relay: StandInRelay) -> None:
    async with profiling(relay, timing=ProfilerTiming(post_s=600)) as looks:
        await looks.come_to(2)
        assert relay.posts == []
    assert ("memory_free", "") in series(relay)


async def test_readings_that_are_being_posted_at_the_end_arrive(relay: StandInRelay) -> None:
    relay.lets_in.clear()
    async with profiling(relay, interval_s=600):
        await eventually(lambda: relay.waiting)
        asyncio.get_running_loop().call_later(0.2, relay.lets_in.set)
    assert ("memory_free", "") in series(relay)


@pytest.mark.parametrize(
    ("environment", "enabled", "trial"),
    [
        ({"DET_TRIAL_ID": "7", "SHIPWAY_PROFILE": "true"}, False, 7),
        ({"DET_TRIAL_ID": "7", "SHIPWAY_PROFILE": "1"}, False, 7),
        ({"DET_TRIAL_ID": "7"}, True, 7),
        ({"DET_TRIAL_ID": "7"}, False, None),
        ({"DET_TRIAL_ID": "7", "SHIPWAY_PROFILE": "false"}, False, None),
        ({"SHIPWAY_PROFILE": "true"}, True, None),
        ({"DET_TRIAL_ID": "x", "SHIPWAY_PROFILE": "true"}, True, None),
    ],
    ids=str,
)
def test_only_trials_are_profiled_and_only_if_asked(
    environment: dict[str, str], enabled: bool, trial: int | None
) -> None:
    assert profiled_trial(environment, enabled=enabled) == trial


def test_the_oldest_samples_go_first() -> None:
    samples = Samples(limit=4)
    for number in range(6):
        samples.add({Series(name="x"): float(number)}, datetime.fromisoformat("2026-01-01"))
    taken = samples.take(3)
    assert [sample.value for sample in taken] == [2, 3, 4]
    samples.add({Series(name="x"): 6.0}, datetime.fromisoformat("2026-01-01"))
    samples.put_back(taken)
    assert [sample.value for sample in samples.take(9)] == [3, 4, 5, 6]
