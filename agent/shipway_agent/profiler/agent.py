"""The profilers of all containers of an agent: one for each that asks for it, while it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from shipway_agent.config import AgentSettings
from shipway_agent.containers.lives import Lives
from shipway_agent.containers.records import Record
from shipway_agent.errors import AgentError
from shipway_agent.master.endpoint import make_endpoint
from shipway_agent.profiler.gpus import GpuReader, amd_driver
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.profiler.task import TaskProfiler, trial_number
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Runtime
from shipway_agent.slots.watch import SlotWatch
from shipway_agent.taskapi import TaskApi
from shipway_common.logsetup import log_context

log = logging.getLogger(__name__)


def make_sampler(
    settings: AgentSettings,
    environ: Mapping[str, str],
    lives: Lives,
    runtime: Runtime,
    watch: SlotWatch,
) -> Sampler:
    """Make what reads the node, the devices that are offered, and the containers that run."""
    assert settings.state_dir is not None
    kinds = {slot.type for slot in watch.offered}
    gpus: GpuReader | None = None
    if "cuda" in kinds:
        gpus = GpuReader(environ)
    elif "rocm" in kinds:
        gpus = GpuReader(environ, driver=amd_driver(watch.offered))
    return Sampler(
        list_running=lambda: [handle for _, handle in lives.running()],
        find_processes=runtime.processes,
        gpus=gpus,
        paths=(Path("/"), settings.state_dir),
    )


class _Profiled(NamedTuple):
    task: asyncio.Task[None]
    ended: asyncio.Event


async def profile_containers(
    list_running: Callable[[], Sequence[tuple[Record, ContainerHandle]]],
    sampler: Sampler,
    settings: AgentSettings,
    environ: Mapping[str, str],
    *,
    interval_s: float = 1.0,
) -> None:
    """Keep a profiler beside each running container that wants one; until cancelled.

    Args:
        list_running: The containers that run at this moment.
        sampler: Where the numbers come from.
        settings: The agent's; say where the master is and whether all trials are profiled.
        environ: The agent's own environment.
        interval_s: How often to look for new and ended containers.
    """
    profiled: dict[ContainerId, _Profiled] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            running = {record.container.id: record for record, _ in list_running()}
            for gone in profiled.keys() - running.keys():
                profiled.pop(gone).ended.set()
            for container_id in running.keys() - profiled.keys():
                ended = asyncio.Event()
                work = _profile(running[container_id], sampler, settings, environ, ended)
                profiled[container_id] = _Profiled(group.create_task(work), ended)
            await asyncio.sleep(interval_s)


async def _profile(
    record: Record,
    sampler: Sampler,
    settings: AgentSettings,
    environ: Mapping[str, str],
    ended: asyncio.Event,
) -> None:
    trial_id = trial_number(record.trial_id or "")
    token, container = record.session_token, record.container
    is_wanted = record.profiles or settings.profiling.enabled
    if trial_id is None or token is None or not is_wanted:
        return
    with log_context(container_id=container.id):
        try:
            endpoint = await asyncio.to_thread(make_endpoint, settings, environ)
            url = endpoint.url.with_scheme("https" if endpoint.tls else "http").origin()
            async with (
                TaskApi(
                    str(url),
                    token,
                    trust=endpoint.tls,
                    certificate_name=endpoint.server_name,
                    proxy=endpoint.proxy,
                ) as api,
                TaskProfiler(
                    api,
                    sampler,
                    trial_id=trial_id,
                    agent_id=settings.agent_id,
                    container_id=container.id,
                    gpus=[device.uuid for device in container.devices or () if device.uuid],
                ),
            ):
                await ended.wait()
        except AgentError as error:
            log.warning("no metrics of a task: %s", error)
        except Exception:
            log.exception("profiling a task failed; the task goes on without")
