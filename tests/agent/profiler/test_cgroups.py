"""Control groups of both versions, by files as kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_agent.profiler.cgroups import (
    Hierarchies,
    Places,
    cpu_limit,
    memory_limits,
    own_places,
    read_cpu,
    read_disk,
    read_memory,
)
from shipway_agent.profiler.quantities import Quantity

ID = "5f0c8d525d7a4c1f9e5b"


class Tree:
    """A folder in the place of /sys/fs/cgroup, and of /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cgroup v"  # mountinfo writes the blank as \040
        self._mounts: list[str] = []
        self._mountinfo = folder / "mountinfo"

    def mount(self, name: str, kind: str, options: str, root: str = "/") -> None:
        point = str(self.folder / name).rstrip("/").replace(" ", "\\040")
        self._mounts.append(
            f"31 23 0:28 {root} {point} rw,relatime shared:9 - {kind} {kind} {options}\n"
        )
        (self.folder / name).mkdir(parents=True, exist_ok=True)

    def write(self, group: str, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / group / name.replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def locate(self, cgroup_text: str) -> Places:
        self._mountinfo.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + "".join(self._mounts))
        return Hierarchies.read(str(self._mountinfo)).locate(cgroup_text.encode())


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def make_v2(tree: Tree, group: str = f"system.slice/docker-{ID}.scope") -> Places:
    tree.mount("", "cgroup2", "rw,nsdelegate")
    tree.write(
        group,
        cpu__stat="usage_usec 12345678\nuser_usec 12000000\nsystem_usec 345678\n",
        cpu__max="150000 100000\n",
        memory__current="3000000\n",
        memory__max="4194304\n",
        memory__stat="anon 1000\nfile 2000\ninactive_anon 7\ninactive_file 1000000\n",
        io__stat="8:0 rbytes=100 wbytes=20 rios=3 wios=4 dbytes=0 dios=0\n"
        "7:0 \n259:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=9 dios=9\n",
    )
    return tree.locate(f"0::/{group}\n")


def test_version_2_is_read(tree: Tree) -> None:
    places = make_v2(tree)
    assert read_cpu(places) == {Quantity.CPU_SECONDS: 12.345678}
    assert read_memory(places["memory"]) == {
        Quantity.MEMORY_USED: 3000000,
        Quantity.MEMORY_WORKING_SET: 2000000,
    }
    assert read_disk(places) == {
        Quantity.DISK_READ_BYTES: 101,
        Quantity.DISK_WRITTEN_BYTES: 22,
        Quantity.DISK_READS: 4,
        Quantity.DISK_WRITES: 5,
    }


def test_limits_of_version_2_hold_from_the_top_down(tree: Tree) -> None:
    places = make_v2(tree)
    tree.write("system.slice", memory__max="2097152\n", cpu__max="max 100000\n")
    assert [one.limit_bytes for one in memory_limits(places)] == [4194304, 2097152]
    assert cpu_limit(places) == 1.5
    tree.write("system.slice", memory__max="max\n", cpu__max="50000 100000\n")
    assert [one.limit_bytes for one in memory_limits(places)] == [4194304]
    assert cpu_limit(places) == 0.5


def test_what_a_controller_that_is_off_would_tell_is_missing(tree: Tree) -> None:
    tree.mount("", "cgroup2", "rw")
    tree.write("user.slice/x", cpu__stat="usage_usec 5\n")
    places = tree.locate("0::/user.slice/x\n")
    assert read_cpu(places) == {Quantity.CPU_SECONDS: 5e-6}
    assert read_memory(places["memory"]) == {}
    assert read_disk(places) == {}
    assert (memory_limits(places), cpu_limit(places)) == ([], None)


def make_v1(tree: Tree) -> Places:
    tree.mount("cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    tree.mount("memory", "cgroup", "rw,memory")
    tree.mount("blkio", "cgroup", "rw,blkio")
    tree.mount("pids", "cgroup", "rw,pids")
    tree.mount("unified", "cgroup2", "rw")
    group = f"docker/{ID}"
    tree.write(
        f"cpu,cpuacct/{group}",
        cpuacct__usage="2500000000\n",
        cpu__cfs_quota_us="50000\n",
        cpu__cfs_period_us="100000\n",
    )
    tree.write(
        f"memory/{group}",
        memory__usage_in_bytes="3000000\n",
        memory__limit_in_bytes="67108864\n",
        memory__stat="inactive_file 1\nhierarchical_memory_limit 9\ntotal_inactive_file 1000000\n",
    )
    tree.write("memory", memory__limit_in_bytes="9223372036854771712\n")
    tree.write("cpu,cpuacct", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    throttle = f"blkio/{group}/blkio.throttle."
    for name, text in (
        ("io_service_bytes", "8:0 Read 4096\n8:0 Write 512\n8:16 Read 4\n8:0 Total 4608\n"),
        ("io_serviced", "8:0 Read 2\n8:0 Write 1\n8:0 Sync 3\n8:0 Total 3\nTotal 3\n"),
    ):
        path = tree.folder / f"{throttle}{name}_recursive"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tree.folder / "unified" / group).mkdir(parents=True)
    return tree.locate(
        f"9:pids:/{group}\n4:memory:/{group}\n3:blkio:/{group}\n2:cpu,cpuacct:/{group}\n"
        f"1:name=systemd:/{group}\n0::/{group}\n"
    )


def test_version_1_is_read_and_comes_before_version_2(tree: Tree) -> None:
    places = make_v1(tree)
    assert {folder.version for folder in places.values()} == {1}
    assert read_cpu(places) == {Quantity.CPU_SECONDS: 2.5}
    assert read_memory(places["memory"])[Quantity.MEMORY_WORKING_SET] == 2000000
    assert read_disk(places) == {
        Quantity.DISK_READ_BYTES: 4100,
        Quantity.DISK_WRITTEN_BYTES: 512,
        Quantity.DISK_READS: 2,
        Quantity.DISK_WRITES: 1,
    }
    assert [one.limit_bytes for one in memory_limits(places)] == [67108864]
    assert cpu_limit(places) == 0.5


def test_version_1_may_not_count_disks(tree: Tree) -> None:
    places = make_v1(tree)
    for path in tree.folder.glob("blkio/**/blkio.throttle.*"):
        path.write_text("Total 0\n")
    assert read_disk(places) == {}


def test_a_group_inside_the_container_counts_as_the_container(tree: Tree) -> None:
    places = make_v2(tree, f"system.slice/libpod-{ID}.scope/container/init.scope")
    own = own_places(places, ID)
    assert own["memory"].path == str(tree.folder / f"system.slice/libpod-{ID}.scope")


@pytest.mark.parametrize("native_id", ["", "another"])
def test_a_group_without_the_containers_id_is_not_its_own(tree: Tree, native_id: str) -> None:
    assert own_places(make_v2(tree), native_id) == {}


def test_a_group_that_is_not_seen_from_here_is_missing(tree: Tree) -> None:
    tree.mount("", "cgroup2", "rw", root="/lxc/node")
    tree.write("job", cpu__stat="usage_usec 5\n")
    assert set(tree.locate("0::/lxc/node/job\n")) == {"cpu", "cpuacct", "memory", "blkio"}
    assert tree.locate("0::/lxc\n") == {}
    assert tree.locate("0::/lxc/other\n") == {}
    assert tree.locate("nonsense\n0::/lxc/node/gone\n") == {}
