"""The container of one rank: what it is to be, and its way from nothing to its end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGTERM, SIGUSR1
from typing import Any

from shipway_agent.containers.keeping import OutputKeeping
from shipway_agent.errors import ContainerRuntimeError
from shipway_agent.job.copying import SlowestReader, copy_output
from shipway_agent.job.notices import Notices
from shipway_agent.job.rank import Rank
from shipway_agent.job.shipping import JobLog
from shipway_agent.job.taskfile import TaskFile
from shipway_agent.runtimes.spec import (
    ContainerHandle,
    ContainerId,
    ContainerSpec,
    Device,
    Event,
    EventKind,
    Exit,
    Mount,
    RegistryAuth,
    Runtime,
    Stream,
)

log = logging.getLogger(__name__)

_OUTPUT_LIMIT_S = 30.0
_REMOVE_LIMIT_S = 20.0


def container_spec(
    task: TaskFile, rank: Rank, environment: Mapping[str, str], tree: Path | None
) -> ContainerSpec:
    """Say what the container of one rank is; pure.

    Args:
        task: The task file.
        rank: Which of the ranks.
        environment: All variables of the container.
        tree: The host folder with the task's files, this rank's own or shared by all.
    """
    devices, mounts = task.devices, task.mounts
    if task.runtime == "apptainer":
        devices, mounts = _apptainer_devices(task)
    return ContainerSpec(
        id=ContainerId(f"{task.dispatch_id}-{rank.number}"),
        name=task.name,
        image=task.image,
        argv=task.arguments,
        environment=environment,
        work_dir=task.working_dir,
        mounts=mounts,
        tree=tree,
        ports=task.ports,
        network_mode=task.network_mode,
        devices=devices,
        add_capabilities=task.add_capabilities,
        drop_capabilities=task.drop_capabilities,
        all_gpus=task.gpu_vendor,
        labels={"shipway.dispatch": task.dispatch_id, "shipway.rank": str(rank.number)},
        registry_auth=_registry_auth(task),
        force_pull=task.disable_image_cache,
    )


def _apptainer_devices(task: TaskFile) -> tuple[tuple[Device, ...], tuple[Mount, ...]]:
    """Give devices by other names as mounts: there is no other way with the host's own /dev."""
    same, mounts = list[Device](), list(task.mounts)
    for device in task.devices:
        if device.host == device.container:
            same.append(device)
        elif Path(device.container).is_relative_to("/dev"):
            log.warning(
                "device %s is not there as %s: apptainer shows the host's /dev as it is",
                device.host,
                device.container,
            )
        else:
            mounts.append(Mount(source=device.host, target=device.container))
    return tuple(same), tuple(mounts)


def _registry_auth(task: TaskFile) -> RegistryAuth | None:
    """Find the credentials, which the master gives in Singularity's variables for all runtimes.

    Apptainer and Singularity read the variables themselves.
    """
    if task.runtime == "apptainer":
        return None
    for prefix in ("APPTAINER", "SINGULARITY"):
        username = task.environment.get(f"{prefix}_DOCKER_USERNAME")
        if username:
            password = task.environment.get(f"{prefix}_DOCKER_PASSWORD", "")
            return RegistryAuth(username=username, password=password)
    return None


class RankContainer:
    """Runs one container from its image to its removal."""

    def __init__(
        self,
        runtime: Runtime,
        spec: ContainerSpec,
        notices: Notices,
        *,
        terminates: bool,
        keeps_usr1: bool,
        on_running: Callable[[], None],
        tells_pull: bool,
        task_log: JobLog | None,
    ) -> None:
        """Prepare; nothing is made yet.

        Args:
            runtime: What runs the container.
            spec: What it is to be.
            notices: The signals for it.
            terminates: Whether SIGTERM is among those that reach it.
            keeps_usr1: Whether a notice by SIGUSR1 reaches it as that, and not as SIGTERM.
            on_running: Called once, when its first process runs.
            tells_pull: Whether people wait on our stderr for how far the image is.
            task_log: Gets all output, besides our own stdout and stderr.
        """
        self._runtime, self._spec, self._notices = runtime, spec, notices
        self._terminates, self._keeps_usr1 = terminates, keeps_usr1
        self._on_running, self._task_log = on_running, task_log
        self._tells_pull = tells_pull
        self.handle: ContainerHandle | None = None
        """The runtime's container while it runs."""

    @property
    def id(self) -> ContainerId:
        """The container's name here."""
        return self._spec.id

    async def run(self) -> Exit:
        """Run it to its end; when this returns or raises, it is gone.

        Raises:
            ContainerRuntimeError: It could not be run, in the runtime's own words.
        """
        if self._spec.image is not None:
            await self._unless_told_to_end(self._runtime.pull(self._spec, self._tell_pull))
        if self._is_told_to_end:
            return Exit(
                code=None, signal=SIGTERM, reason="the job had to end before the task began"
            )
        async with AsyncExitStack() as stack:
            handle = await self._runtime.create(self._spec, _log_event)
            stack.push_async_callback(self._remove, handle)
            async with asyncio.TaskGroup() as group:
                signals = group.create_task(self._pass_signals(handle))
                await self._runtime.start(handle)
                self.handle = handle
                self._on_running()
                copying, shipping, releasing = self._read_output(group, handle)
                end = await self._runtime.wait(handle)
                self.handle = None
                await asyncio.wait(
                    [shipping], timeout=self._task_log.limit_s if self._task_log else None
                )
                _, late = await asyncio.wait([copying], timeout=_OUTPUT_LIMIT_S)
                for task in (signals, copying, shipping, releasing):
                    task.cancel()
            if late:
                log.warning("the task's last output was not read within %g s", _OUTPUT_LIMIT_S)
        return end

    def _tell_pull(self, event: Event) -> None:
        if self._tells_pull and event.kind in (EventKind.PULL_BEGAN, EventKind.PULL_PROGRESS):
            sys.stderr.write(f"shipway: {event.text}\n")
            sys.stderr.flush()
        else:
            _log_event(event)

    @property
    def _is_told_to_end(self) -> bool:
        return self._notices.ends(terminates=self._terminates)

    async def _unless_told_to_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what may take long, but not when a signal says that it is in vain."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            told = group.create_task(self._notices.wait_for_end(terminates=self._terminates))
            await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            if self._is_told_to_end:
                working.cancel()

    async def _pass_signals(self, handle: ContainerHandle) -> None:
        while True:
            number = await self._notices.for_task.get()
            if number == SIGUSR1 and not self._keeps_usr1:
                number = SIGTERM
            if number == SIGTERM and not self._is_told_to_end:
                continue
            try:
                await self._runtime.signal(handle, number)
            except ContainerRuntimeError as error:
                log.warning("signal %d did not reach the task: %s", number, error)

    def _read_output(
        self, group: asyncio.TaskGroup, handle: ContainerHandle
    ) -> tuple[asyncio.Task[None], ...]:
        """Have the output copied, shipped, and given up where both have happened.

        Each reads it by itself, so that neither a stalled stdout nor a master that is away holds
        the other up, unless the task gets too far ahead.
        """
        keeping = OutputKeeping(self._runtime, handle)
        readers = SlowestReader(1 if self._task_log is None else 2, keeping.noting(_ignore))
        copying = copy_output(self._runtime.output(handle), readers.note_of(0))
        shipping = (
            asyncio.sleep(0)
            if self._task_log is None
            else self._task_log.ship(keeping.open, readers.note_of(1))
        )
        return tuple(group.create_task(work) for work in (copying, shipping, keeping.release()))

    async def _remove(self, handle: ContainerHandle) -> None:
        try:
            async with asyncio.timeout(_REMOVE_LIMIT_S):
                await self._runtime.kill(handle)
                await self._runtime.remove(handle)
        except (ContainerRuntimeError, TimeoutError) as error:
            log.error("the container is not removed: %r", error)


def exit_status(end: Exit) -> int | None:
    """Return the exit status that tells how the task ended; None if nobody knows."""
    return end.code if end.signal is None else 128 + end.signal


def _ignore(stream: Stream, end: int) -> None:
    """Keep no record of what was delivered: a job does not come back."""


def _log_event(event: Event) -> None:
    level = logging.WARNING if event.kind is EventKind.WARNING else logging.INFO
    log.log(level, "%s", event.text)
