"""The node is looked at once for all, and only when somebody wants to know."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.profiler.node import NodeReader, parse_interfaces
from shipway_agent.profiler.quantities import Quantity, Snapshot
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.runtimes.processes import identify
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Processes
from tests.agent.job.conftest import eventually


class Node:
    """Containers that are this process, and how often somebody looked."""

    def __init__(self, *ids: str) -> None:
        self.handles = [ContainerHandle(container_id=ContainerId(i), native_id=i) for i in ids]
        self.looks = 0
        self.finds = 0
        self.is_down = False

    def list_running(self) -> list[ContainerHandle]:
        self.looks += 1
        return self.handles

    async def find(self, handle: ContainerHandle) -> Processes | None:
        self.finds += 1
        if self.is_down:
            raise RuntimeUnavailable("it does not answer")
        own = identify(os.getpid())
        assert own is not None
        return Processes(first=own)

    def sampler(self, interval_s: float = 0.02) -> Sampler:
        return Sampler(
            list_running=self.list_running, find_processes=self.find, interval_s=interval_s
        )


async def test_nothing_is_read_while_nobody_listens() -> None:
    node = Node("a")
    heard: list[Snapshot] = []
    async with node.sampler() as sampler:
        await asyncio.sleep(0.1)
        assert node.looks == 0
        with sampler.listening(heard.append):
            await eventually(lambda: len(heard) >= 2)
        looks = node.looks
        await asyncio.sleep(0.1)
        assert node.looks <= looks + 1  # one may have been under way


async def test_all_listeners_hear_of_the_same_look() -> None:
    node = Node("a", "b")
    first: list[Snapshot] = []
    second: list[Snapshot] = []
    async with node.sampler() as sampler:
        with sampler.listening(first.append), sampler.listening(second.append):
            await eventually(lambda: len(first) >= 3)
    assert first[0].containers.keys() == {"a", "b"}
    assert first[-len(second) :] == second
    assert node.finds == 2  # once for each container, not for each look


async def test_a_look_that_is_young_enough_is_not_repeated() -> None:
    node = Node()
    async with node.sampler() as sampler:
        last = await sampler.sample(max_age_s=60)
        both = await asyncio.gather(*(sampler.sample(max_age_s=60) for _ in range(5)))
        assert all(one is last for one in both)
        assert await sampler.sample(max_age_s=0) is not last
        node.handles = Node("a").handles  # what began since then is not in it
        assert "a" in (await sampler.sample(max_age_s=60)).containers


async def test_a_runtime_that_does_not_answer_is_not_asked_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = Node("a")
    node.is_down = True
    async with node.sampler() as sampler:
        for _ in range(3):
            snapshot = await sampler.sample(max_age_s=0)
            assert snapshot.containers == {}
            assert snapshot.node.cpus > 0
    assert node.finds == 1
    assert caplog.text.count("no metrics of a container") == 1


async def test_open_files_are_given_back() -> None:
    node = Node("a", "b")
    gc.collect()  # what other tests have left is not closed meanwhile
    async with node.sampler() as sampler:
        before = len(os.listdir("/proc/self/fd"))
        await sampler.sample(max_age_s=0)
        assert len(os.listdir("/proc/self/fd")) > before
        node.handles = []
        await sampler.sample(max_age_s=0)
        assert len(os.listdir("/proc/self/fd")) == before


def test_the_node_is_read() -> None:
    usage = NodeReader(paths=(Path("/"), Path("/nowhere"))).read()
    assert usage.cpus >= 1
    assert usage.cpu_seconds["idle"] > 0
    assert usage.memory[Quantity.MEMORY_TOTAL] > usage.memory[Quantity.MEMORY_FREE] > 0
    assert list(usage.filesystems) == ["/"]
    assert all("veth" not in name for name in usage.networks)


def test_disks_that_are_made_of_others_do_not_count_twice(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    for disk, slaves in (("sda", ()), ("dm-0", ("sda2",)), ("md0", ("sda", "sdb")), ("loop0", ())):
        for slave in (".", *slaves):
            (tmp_path / "sys/block" / disk / "slaves" / slave).mkdir(parents=True, exist_ok=True)
    names = ("sda", "sda1", "sda2", "dm-0", "md0", "loop0")
    (tmp_path / "proc/diskstats").write_text(
        "".join(f"   8       0 {name} 10 0 80 5 20 0 160 9 0 7 14\n" for name in names)
    )
    usage = NodeReader(paths=(), root=str(tmp_path)).read()
    assert usage.disks == {
        "sda": {
            Quantity.DISK_READS: 10,
            Quantity.DISK_READ_BYTES: 80 * 512,
            Quantity.DISK_WRITES: 20,
            Quantity.DISK_WRITTEN_BYTES: 160 * 512,
        }
    }
    assert (usage.cpus, usage.memory, usage.networks) == (0, {}, {})


def test_an_interface_may_have_any_name() -> None:
    data = b"Inter-|   Receive\n face |bytes\n    lo: 1 0 0 0 0 0 0 0 1\n"
    data += b"a:b c: 12 0 0 0 0 0 0 0 34 0 0\n eth0:1000000000000 0 0 0 0 0 0 0 5 0\nbroken\n"
    found = parse_interfaces(data)
    assert list(found) == ["a:b c", "eth0"]
    assert found["a:b c"] == {Quantity.NETWORK_RECEIVED: 12, Quantity.NETWORK_SENT: 34}
