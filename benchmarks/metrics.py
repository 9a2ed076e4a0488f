"""Share of one core that looking at a node with tasks and GPUs takes, against reading it bare.

Tasks are process trees as the sandbox leaves them (a holder, a shell and its child) or, with
`--cgroups` (as root, where cgroups of version 1 or 2 can be made), groups of their own. GPUs are the
tests' stand-in for NVML. "bare" opens the same files and makes the same NVML calls, once for each
number that is told, without finding out, checking or keeping anything; "agent" is the sampler with
its helper process. Both are counted in CPU seconds of this process and its helper.

    python -m benchmarks.metrics [--tasks 20] [--gpus 8] [--looks 30] [--interval 1] [--cgroups]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shipway_agent.profiler.gpus import GpuReader
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.runtimes.processes import ProcessIdentity, descendants, identify
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Processes

_library = Path(__file__).parent.parent / "tests/agent/profiler/data/fake_nvml.c"
_cgroup_files = {
    1: (
        "cpuacct/{}/cpuacct.usage",
        "memory/{}/memory.usage_in_bytes",
        "memory/{}/memory.stat",
        "memory/{}/cgroup.procs",
        "blkio/{}/blkio.throttle.io_service_bytes_recursive",
        "blkio/{}/blkio.throttle.io_serviced_recursive",
    ),
    2: ("{}/cpu.stat", "{}/memory.current", "{}/memory.stat", "{}/io.stat"),
}
_node_files = ("/proc/stat", "/proc/meminfo", "/proc/diskstats", "/proc/net/dev")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--looks", type=int, default=30)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two looks")
    parser.add_argument("--cgroups", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environ = _make_driver(folder, options.gpus)
        tasks = [stack.enter_context(_task()) for _ in range(options.tasks)]
        groups = [stack.enter_context(_group(task)) for task in tasks] if options.cgroups else []
        bare_s = _measure_bare(tasks, groups, environ, options)
        agent_s = asyncio.run(_measure_agent(tasks, groups, environ, options))
    print(f"{options.tasks} tasks, {options.gpus} GPUs, every {options.interval:g} s")
    for name, seconds in (("bare", bare_s), ("agent", agent_s)):
        print(
            f"{name:6} {1000 * seconds:7.3f} ms of CPU per look"
            f" = {100 * seconds:6.3f} % of a core at 1 s  ratio {seconds / bare_s:.2f}"
        )


def _make_driver(folder: Path, gpus: int) -> dict[str, str]:
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-w", "-O2", "-shared", "-fPIC", "-o", library, _library], check=True)
    (folder / "says").write_text(f"N {gpus}\n")
    return {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(folder),
        "FAKE_NVML": str(folder / "says"),
    }


@contextlib.contextmanager
def _task() -> Iterator[ProcessIdentity]:
    """Run a holder with a small tree below it."""
    words = ["sh", "-c", "sh -c 'sleep 10000 & wait' & wait"]
    with subprocess.Popen(words, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 10
            while len(descendants(process.pid)) < 2 and time.monotonic() < deadline:
                time.sleep(0.005)
            identity = identify(process.pid)
            assert identity is not None
            yield identity
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _group(task: ProcessIdentity) -> Iterator[str]:
    """Put a task into groups of its own, in each hierarchy that is mounted; gives their name."""
    name = f"benchmark-{uuid.uuid4().hex}"
    tops = [path.parent for path in Path("/sys/fs/cgroup").glob("*/cgroup.procs")]
    if not tops:
        tops = [Path("/sys/fs/cgroup")]
    folders = [top / name for top in tops if top.name not in {"cpuset", "systemd"}]
    pids = [task.pid, *(stat.pid for stat in descendants(task.pid))]
    for folder in folders:
        folder.mkdir()
        for pid in pids:
            (folder / "cgroup.procs").write_text(str(pid))
    try:
        yield name
    finally:
        for folder in folders:
            for pid in pids:
                with contextlib.suppress(OSError):
                    (folder.parent / "cgroup.procs").write_text(str(pid))
            folder.rmdir()


async def _measure_agent(
    tasks: Sequence[ProcessIdentity],
    groups: Sequence[str],
    environ: dict[str, str],
    options: argparse.Namespace,
) -> float:
    names = groups or [f"task-{number}" for number in range(len(tasks))]
    handles = [ContainerHandle(container_id=ContainerId(one), native_id=one) for one in names]
    places = {
        name: Processes(first=task, holder=None if groups else task)
        for name, task in zip(names, tasks, strict=True)
    }

    async def find(handle: ContainerHandle) -> Processes:
        return places[handle.native_id]

    gpus = GpuReader(environ)
    async with Sampler(list_running=lambda: handles, find_processes=find, gpus=gpus) as sampler:
        first = await sampler.sample(max_age_s=0)
        source = "cgroup" if groups else "processes"
        assert all(usage.source == source for usage in first.containers.values())
        assert (len(first.containers), len(first.gpus)) == (options.tasks, options.gpus)
        helper = _find_helper() if options.gpus else os.getpid()
        begun_s = _cpu_s() + _cpu_of_s(helper)
        for _ in range(options.looks):
            await asyncio.sleep(options.interval)
            await sampler.sample(max_age_s=0)
        return (_cpu_s() + _cpu_of_s(helper) - begun_s) / int(options.looks)


def _find_helper() -> int:
    return next(
        stat.pid
        for stat in descendants(os.getpid())
        if b"nvml_readings" in Path(f"/proc/{stat.pid}/cmdline").read_bytes()
    )


def _measure_bare(
    tasks: Sequence[ProcessIdentity],
    groups: Sequence[str],
    environ: dict[str, str],
    options: argparse.Namespace,
) -> float:
    files = [*_node_files, *_task_files(tasks, groups)]
    read_gpus = _open_driver(environ, options.gpus)
    begun_s = _cpu_s()
    for _ in range(options.looks):
        time.sleep(options.interval)
        read_gpus()
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            os.read(descriptor, 1 << 16)
            os.close(descriptor)
        os.statvfs("/")
    return (_cpu_s() - begun_s) / int(options.looks)


def _task_files(tasks: Sequence[ProcessIdentity], groups: Sequence[str]) -> list[str]:
    top = Path("/sys/fs/cgroup")
    version = 2 if (top / "cgroup.controllers").exists() else 1
    found = [str(top / name.format(group)) for group in groups for name in _cgroup_files[version]]
    if groups and version == 2:
        return found
    pids = [stat.pid for task in tasks for stat in descendants(task.pid)]
    names = ("io",) if groups else ("stat", "io")
    return [*found, *(f"/proc/{pid}/{name}" for pid in pids for name in names)]


def _open_driver(environ: dict[str, str], gpus: int) -> Callable[[], None]:
    os.environ["FAKE_NVML"] = environ["FAKE_NVML"]
    library = ctypes.CDLL(f"{environ['LD_LIBRARY_PATH']}/libnvidia-ml.so.1")
    handle, text, numbers = (
        ctypes.c_void_p(),
        ctypes.create_string_buffer(96),
        (ctypes.c_uint64 * 8)(),
    )

    def read() -> None:
        library.nvmlDeviceGetCount_v2(numbers)
        for index in range(gpus):
            library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
            library.nvmlDeviceGetUUID(handle, text, 96)
            library.nvmlDeviceGetName(handle, text, 96)
            library.nvmlDeviceGetMigMode(handle, numbers, ctypes.byref(numbers, 8))
            library.nvmlDeviceGetMemoryInfo(handle, numbers)
            library.nvmlDeviceGetUtilizationRates(handle, numbers)
            library.nvmlDeviceGetTemperature(handle, 0, numbers)
            library.nvmlDeviceGetPowerUsage(handle, numbers)

    return read


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _cpu_of_s(pid: int) -> float:
    """Return the CPU time of another process: nanoseconds, of its threads together."""
    total_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total_ns += int(path.read_text().split()[0])
    return total_ns / 1e9


if __name__ == "__main__":
    sys.exit(main())
