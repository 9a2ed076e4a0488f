"""The parts of a job, entered and left in order; the end of the process is the task's."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from shipway_agent.errors import AgentError, LaunchRefused
from shipway_agent.job.cause import Cause, find_cause
from shipway_agent.job.container import RankContainer, container_spec, exit_status
from shipway_agent.job.devices import number_devices
from shipway_agent.job.errors import JobError
from shipway_agent.job.folder import copy_tree, job_folder
from shipway_agent.job.mps import with_mps
from shipway_agent.job.notices import Notices
from shipway_agent.job.proxies import proxy_variables, read_proxies
from shipway_agent.job.rank import (
    WRAPPER,
    Rank,
    find_visible_devices,
    inherited_environment,
    read_rank,
    task_environment,
    with_plain_devices,
)
from shipway_agent.job.reports import Reports
from shipway_agent.job.shipping import JobLog
from shipway_agent.job.taskfile import TaskFile, load_task_file
from shipway_agent.logs.encode import LogSource
from shipway_agent.logs.place import job_log_place
from shipway_agent.profiler.gpus import GpuReader
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.profiler.task import TaskProfiler, profiled_trial
from shipway_agent.runtimes.options import RuntimeName, RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import Exit, Runtime
from shipway_agent.taskapi import TaskApi, load_trust

log = logging.getLogger(__name__)

EXIT_NOT_STARTED = 125
"""The task did not run, or nobody knows how it ended; as container programs have it."""

_OUTPUT_LIMIT_BYTES = 1 << 30
"""How much output waits in TMPDIR for the master, and for srun, before the task waits too."""
_WRAPPERS_MEMLOCK_BYTES = 64 << 10
_SAVING_TASKS = frozenset({"TRIAL", "GENERIC"})
"""Types of tasks that save their work and leave when the master asks, and then go on elsewhere."""
_CAUSES = {
    Cause.PREEMPTION: "Slurm had announced that it preempts the job",
    Cause.TIME_LIMIT: "Slurm had warned the job of its time limit",
}
_REPORT_LIMIT_S = 10.0
_DRAIN_LIMIT_S = 30.0


def run_job(task_file: Path, environ: Mapping[str, str]) -> int:
    """Run the task of *task_file* as one rank of a Slurm job; returns the exit status.

    What keeps the task from running is said on stderr, in the words of whoever refused.
    """
    try:
        return asyncio.run(_run(task_file, environ))
    except (AgentError, OSError, BaseExceptionGroup) as error:
        cause = _cause(error)
        if cause is None:
            raise
        sys.stderr.write(f"shipway-agent job: {cause}\n")
        refused = cause.exit_code if isinstance(cause, LaunchRefused) else None
        return EXIT_NOT_STARTED if refused is None else refused


async def _run(task_file: Path, environ: Mapping[str, str]) -> int:
    async with Notices(task_file.parent) as notices:
        status = EXIT_NOT_STARTED
        try:
            status = await _run_rank(task_file, environ, notices)
        finally:
            if status != 0:
                await notices.tell_failure()
        return status


async def _run_rank(task_file: Path, environ: Mapping[str, str], notices: Notices) -> int:
    rank = read_rank(environ, host_name=socket.gethostname())
    task = await asyncio.to_thread(load_task_file, task_file)
    _raise_locked_memory()
    parent = Path(environ.get("TMPDIR") or tempfile.gettempdir())
    async with AsyncExitStack() as stack:
        folder = await asyncio.to_thread(stack.enter_context, job_folder(parent))
        proxies = await _find_proxies(task)
        environ = {**proxies, **environ}
        environment = {**proxies, **await _complete_environment(task, rank, environ)}
        job = _Job(task, rank, environ, environment)
        return await job.run(stack, folder, notices)


class _Job:
    """One rank, with all that it needs on its way."""

    def __init__(
        self,
        task: TaskFile,
        rank: Rank,
        environ: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        self._task, self._rank = task, rank
        self._environ = environ  # our own
        self._environment = environment  # the container's

    async def run(self, stack: AsyncExitStack, folder: Path, notices: Notices) -> int:
        """Run the task; its log and our reports are delivered when *stack* is left."""
        task, rank = self._task, self._rank
        terminates = _terminates(self._environment)
        drain_s = _seconds(self._environment.get("DET_LOG_WAIT_TIME", ""), _DRAIN_LIMIT_S)
        tree = await asyncio.to_thread(_find_tree, task, folder)
        api = reports = task_log = None
        if task.master_url is not None:
            api = await asyncio.to_thread(self._open_api, task.master_url, tree)
            await stack.enter_async_context(api)
            limit_s = min(drain_s, _REPORT_LIMIT_S)
            task_type = self._environment.get("DET_TASK_TYPE")
            reports = Reports(
                api,
                task.allocation_id,
                rank,
                notices,
                find_cause=lambda: find_cause(self._environ, task.warning_s),
                is_preemptible=task_type in _SAVING_TASKS or not terminates,
                limit_s=limit_s,
            )
            await stack.enter_async_context(reports)
            if task.ship_logs:
                task_log = self._open_log(task.master_url, tree, drain_s)
                await stack.enter_async_context(task_log)
        try:
            async with AsyncExitStack() as while_running:
                runtime = await self._open_runtime(folder)
                while_running.push_async_callback(runtime.aclose)
                spec = container_spec(task, rank, self._environment, tree)
                container = RankContainer(
                    runtime,
                    await asyncio.to_thread(with_mps, spec, self._environment),
                    notices,
                    terminates=terminates,
                    keeps_usr1=task.keeps_usr1,
                    on_running=reports.running if reports is not None else _tell_nobody,
                    tells_pull=rank.number == 0,  # one for all: they fetch the same image
                    task_log=task_log,
                )
                if api is not None:
                    await self._profile(while_running, api, runtime, container)
                end = await container.run()
        except (AgentError, OSError, BaseExceptionGroup) as error:
            if task_log is not None:
                text = f"the task could not be run on {rank.node}: {_cause(error) or error}"
                task_log.say(text)
            raise
        return self._status(end, task_log, reports.cause if reports is not None else None)

    def _open_api(self, url: str, tree: Path | None) -> TaskApi:
        environment = self._environment
        is_tls = url.startswith("https://")
        return TaskApi(
            url,
            environment["DET_SESSION_TOKEN"],
            trust=load_trust(environment, tree) if is_tls else None,
            certificate_name=environment.get("DET_MASTER_CERT_NAME") if is_tls else None,
        )

    def _open_log(self, url: str, tree: Path | None, limit_s: float) -> JobLog:
        environment = self._environment
        return JobLog(
            lambda: job_log_place(url, environment, tree),
            environment["DET_SESSION_TOKEN"],
            self._log_source(),
            limit_s=limit_s,
        )

    def _log_source(self) -> LogSource:
        allocation_id = self._task.allocation_id
        return LogSource(
            task_id=self._environment.get("DET_TASK_ID") or allocation_id.rpartition(".")[0],
            allocation_id=allocation_id,
            agent_id=self._rank.node,
            container_id=f"[cont={self._rank.number}]",
            rank=self._rank.number,
        )

    async def _profile(
        self, stack: AsyncExitStack, api: TaskApi, runtime: Runtime, container: RankContainer
    ) -> None:
        trial_id = profiled_trial(self._environment)
        if trial_id is None:
            return
        devices = find_visible_devices(self._environment)
        is_nvidia = devices is not None and devices.variable == "CUDA_VISIBLE_DEVICES"
        gpus = devices.names if devices is not None and is_nvidia else ()
        sampler = Sampler(
            list_running=lambda: [container.handle] if container.handle is not None else [],
            find_processes=runtime.processes,
            gpus=GpuReader(self._environ) if gpus else None,
        )
        profiler = TaskProfiler(
            api,
            await stack.enter_async_context(sampler),
            trial_id=trial_id,
            agent_id=self._rank.node,
            container_id=container.id,
            gpus=gpus,
        )
        await stack.enter_async_context(profiler)

    async def _open_runtime(self, folder: Path) -> Runtime:
        options = RuntimeOptions(
            state_dir=folder / "runtime",
            environ=self._environ,
            tethered=True,
            output_limit_bytes=_OUTPUT_LIMIT_BYTES,
            image_root=self._task.image_root,
        )
        return await find_runtime(cast("RuntimeName", self._task.runtime), options)

    def _status(self, end: Exit, task_log: JobLog | None, cause: Cause | None) -> int:
        """Turn the end into an exit status, and say what the number does not."""
        status = exit_status(end)
        words = [
            *(["out of memory"] if end.out_of_memory else []),
            *([end.reason] if end.reason else []),
            *([_CAUSES[cause]] if cause is not None and cause in _CAUSES else []),
            *(["nobody knows its exit status"] if status is None else []),
        ]
        if words:
            text = f"the task on {self._rank.node} ended: {'; '.join(words)}"
            sys.stderr.write(f"shipway-agent job: {text}\n")
            if task_log is not None:
                task_log.say(text)
        return EXIT_NOT_STARTED if status is None else status


async def _find_proxies(task: TaskFile) -> Mapping[str, str]:
    proxies = await asyncio.to_thread(read_proxies)
    direct = [task.master_url or "", task.environment.get("DET_MASTER", "")]
    return proxy_variables(proxies, task.environment, direct=direct)


def _tell_nobody() -> None:
    """A job without a master has nobody to tell that it runs."""


def _raise_locked_memory() -> None:
    """Allow as much locked memory as may be: RDMA needs it, and the stock wrapper stops at 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    if hard == _WRAPPERS_MEMLOCK_BYTES:
        log.warning(
            "this node allows 64 KiB of locked memory only, and tasks that need more will fail; set"
            " LimitMEMLOCK=infinity in slurmd's unit"
        )


async def _complete_environment(
    task: TaskFile, rank: Rank, environ: Mapping[str, str]
) -> Mapping[str, str]:
    environment = inherited_environment(task.environment, environ)
    numbers = await number_devices(find_visible_devices(environment), environ)
    if task.arguments and task.arguments[0].endswith(WRAPPER):
        return with_plain_devices(environment, numbers)
    return task_environment(environment, rank, numbers)


def _terminates(environment: Mapping[str, str]) -> bool:
    """Read whether the task is to get SIGTERM itself, or only the master is to hear of it."""
    choice = environment.get("SHIPWAY_ON_TERM", "forward")
    if choice not in {"forward", "report"}:
        raise JobError(f"SHIPWAY_ON_TERM is {choice!r}; use forward or report")
    return choice == "forward"


def _find_tree(task: TaskFile, folder: Path) -> Path | None:
    if task.archives_dir is None or not task.private_run_dir:
        return task.archives_dir
    copy_tree(task.archives_dir, folder / "tree")
    return folder / "tree"


def _seconds(text: str, default_s: float) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return default_s
    return seconds if 0 <= seconds < float("inf") else default_s


def _cause(error: BaseException) -> AgentError | OSError | None:
    """Find what we raised on purpose, or the system did, below the groups of tasks."""
    if isinstance(error, AgentError | OSError):
        return error
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error)
        return next((cause for one in inner.exceptions if (cause := _cause(one))), None)
    return None
