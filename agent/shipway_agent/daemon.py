"""The parts of `shipway-agent run`, entered and left in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version

from shipway_agent.config import AgentSettings
from shipway_agent.containers.environment import AgentFacts
from shipway_agent.containers.lives import Lives
from shipway_agent.containers.manager import ContainerManager
from shipway_agent.containers.orders import Identity
from shipway_agent.containers.records import RecordStore
from shipway_agent.containers.reports import Reports
from shipway_agent.containers.surroundings import Limits, Surroundings
from shipway_agent.errors import MasterError, MustRestart, RuntimeUnavailable, SlotsUnknown
from shipway_agent.hook import OutageHook
from shipway_agent.localapi.api import LocalApi
from shipway_agent.localapi.parts import Parts
from shipway_agent.logs.place import agent_log_place
from shipway_agent.logs.routes import LogRoutes
from shipway_agent.master.connection import Timing
from shipway_agent.master.endpoint import make_endpoint
from shipway_agent.master.health import HealthReports
from shipway_agent.master.link import MasterLink, Obeys, Persistence
from shipway_agent.master.messages import Device
from shipway_agent.master.outbox import Outbox
from shipway_agent.profiler.agent import make_sampler, profile_containers
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import Runtime
from shipway_agent.slots.detect import SlotOptions
from shipway_agent.slots.offer import OfferStore, begin_watch
from shipway_agent.slots.slot import Slot
from shipway_agent.slots.watch import SlotWatch
from shipway_agent.statelock import lock_state_dir
from shipway_agent.tasks import first_ended
from shipway_common.service import ServiceManager, without_manager
from shipway_common.signals import stop_on_signals

log = logging.getLogger(__name__)

_FLUSH_LIMIT_S = 5.0
_LAST_OUTPUT_LIMIT_S = 20.0
_RETRY_DETECTION_S = 30.0


async def run_agent(settings: AgentSettings, environ: Mapping[str, str]) -> None:
    """Serve the master until a signal says stop; containers stay, or end as the settings want.

    When the master gives this agent up, or the devices of the machine change while nothing runs,
    the agent lets go of everything, detects its devices anew and registers again.

    Raises:
        AgentError: The agent cannot work here, or gave up reaching the master.
        OSError: The disk is full, or something else of the system fails.
    """
    assert settings.state_dir is not None
    service = ServiceManager(environ)
    with lock_state_dir(settings.state_dir):
        async with stop_on_signals() as stop, LocalApi(settings) as api:
            await first_ended(
                _serve_until(stop, settings, without_manager(environ), service, api),
                service.keep_told(),
            )
        log.info("stopped")


async def _serve_until(
    stop: asyncio.Event,
    settings: AgentSettings,
    environ: Mapping[str, str],
    service: ServiceManager,
    api: LocalApi,
) -> None:
    is_first = True
    slot_options = SlotOptions.of(settings, environ)
    while not stop.is_set():
        try:
            pause_s = await _serve(settings, environ, stop, service, api, slot_options)
        except (SlotsUnknown, RuntimeUnavailable, OSError) as error:  # a full disk, say
            if is_first:
                raise
            log.error("cannot register again, trying again: %s", error)
            pause_s = _RETRY_DETECTION_S
        is_first = False
        if not stop.is_set():
            log.info("registering anew", extra={"in_s": pause_s})
            service.describe = lambda: "not connected; about to register anew"
            await _wait_at_most(stop, pause_s)
            if stop.is_set() and settings.drain_on_stop:
                log.warning("stopped while not registered; containers go on, if there are any")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """What serves a master, from one registration to the next."""

    watch: SlotWatch
    runtime: Runtime
    outbox: Outbox
    lives: Lives
    manager: ContainerManager
    health: HealthReports
    link: MasterLink
    sampler: Sampler


async def _serve(
    settings: AgentSettings,
    environ: Mapping[str, str],
    stop: asyncio.Event,
    service: ServiceManager,
    api: LocalApi,
    slot_options: SlotOptions,
) -> float:
    """Register and serve once; returns how long to wait before doing so again, in seconds."""
    pause_s = settings.registration_pause_s
    async with AsyncExitStack() as stack:
        node = await _open_node(stack, settings, environ, service, slot_options)
        parts = Parts(
            settings=settings,
            lives=node.lives,
            link=node.link,
            runtime=node.runtime,
            sampler=node.sampler,
            watch=node.watch,
        )
        stack.enter_context(api.showing(parts))
        service.describe = lambda: _describe(settings, node)
        service.ready()
        grace_s = settings.drain_grace_s if settings.drain_on_stop else None
        try:
            await first_ended(
                _flush_when(stop, node, service, grace_s),
                _stay_linked(node.link, stop),
                _wait_for_other_slots(node),
                _watch_slots(node.watch, settings.slot_check_interval_s),
                profile_containers(node.lives.running, node.sampler, settings, environ),
            )
        except MustRestart as error:
            log.warning("the master gave this agent up: %s", error)
            await node.lives.detach()
            return pause_s if error.record_may_linger else 1.0
        return pause_s


async def _open_node(
    stack: AsyncExitStack,
    settings: AgentSettings,
    environ: Mapping[str, str],
    service: ServiceManager,
    slot_options: SlotOptions,
) -> _Node:
    """Find devices, runtime and former containers, and make all that serves a master.

    Everything slow is done here, before dialing: a master schedules onto an agent from the
    handshake on.
    """
    assert settings.state_dir is not None
    records = RecordStore(settings.state_dir / "containers")
    await asyncio.to_thread(records.open)
    watch = await begin_watch(
        slot_options,
        OfferStore(file=settings.state_dir / "slots.json", agent_id=settings.agent_id),
        in_use=bool(await asyncio.to_thread(records.load_all, settings.agent_id)),
    )
    options = replace(settings.runtime_options(environ), in_units=service.makes_units)
    runtime = await find_runtime(settings.container_runtime, options)
    stack.push_async_callback(runtime.aclose)
    log.info("containers run by %s: %s", runtime.name, runtime.description)
    outbox, lives = Outbox(), Lives()
    log_routes = LogRoutes(
        lambda: agent_log_place(settings, environ),
        longest_retry_s=settings.agent_reconnect_backoff,
    )
    manager = ContainerManager(
        identity=_identity(settings, watch.offered),
        around=Surroundings(
            runtime=runtime,
            reports=Reports(outbox, settings.agent_id),
            records=records,
            limits=Limits(),
            log_routes=await stack.enter_async_context(log_routes),
            keeps_ended=settings.container_auto_remove_disabled,
        ),
        outbox=outbox,
        lives=lives,
        device_problem=watch.problem,
    )
    await manager.load()
    await stack.enter_async_context(lives)
    health = HealthReports(manager, watch, outbox)
    watch.on_change = health.tell
    hook = await stack.enter_async_context(OutageHook(settings.hooks, environ))
    sampler = make_sampler(settings, environ, lives, runtime, watch)
    return _Node(
        watch=watch,
        runtime=runtime,
        outbox=outbox,
        lives=lives,
        manager=manager,
        health=health,
        link=_make_link(settings, environ, outbox, health, hook),
        sampler=await stack.enter_async_context(sampler),
    )


def _make_link(
    settings: AgentSettings,
    environ: Mapping[str, str],
    outbox: Outbox,
    agent: Obeys,
    hook: OutageHook,
) -> MasterLink:
    return MasterLink(
        query=_query(settings),
        find_endpoint=lambda: asyncio.to_thread(make_endpoint, settings, environ),
        outbox=outbox,
        agent=agent,
        persistence=Persistence(
            longest_delay_s=settings.agent_reconnect_backoff,
            max_attempts=settings.agent_reconnect_attempts,
            linger_s=settings.registration_pause_s,
        ),
        timing=Timing.with_silence(settings.master_silence_s),
        on_outage=hook.note,
    )


async def _stay_linked(link: MasterLink, stop: asyncio.Event) -> None:
    """Stay connected; once the agent stops, a lost master does not keep it from doing so well."""
    try:
        await link.run()
    except MasterError as error:
        if not stop.is_set():
            raise
        log.warning("the master is lost while the agent stops: %s", error)
        await asyncio.Event().wait()


async def _flush_when(
    stop: asyncio.Event, node: _Node, service: ServiceManager, grace_s: float | None
) -> None:
    """Wait for *stop*; then leave the containers and say the last words to the master.

    Args:
        grace_s: How long the containers may take to end; None: they go on without the agent.
    """
    await stop.wait()
    log.info("stopping; the containers %s", "go on" if grace_s is None else "are ended")
    service.stopping()
    await (node.lives.detach() if grace_s is None else node.manager.drain(grace_s))
    if node.link.is_connected:
        try:
            async with asyncio.timeout(_FLUSH_LIMIT_S if grace_s is None else _LAST_OUTPUT_LIMIT_S):
                await node.outbox.wait_empty()
                await node.lives.wait_settled()
        except TimeoutError:
            log.warning("the master did not read everything; the next start tells it again")


async def _wait_for_other_slots(node: _Node) -> None:
    """Wait until other devices can be offered and no container is in the way of doing so."""
    await node.health.greeted.wait()  # before, a former process's containers are not counted
    while True:
        await node.watch.differs.wait()
        await node.lives.wait_idle()
        if node.watch.differs.is_set():
            break
    log.warning("the devices of this machine changed")


async def _watch_slots(watch: SlotWatch, interval_s: float) -> None:
    await watch.run(interval_s=interval_s)
    await asyncio.Event().wait()  # there was nothing to watch; that is no reason to stop


async def _wait_at_most(event: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return


def _describe(settings: AgentSettings, node: _Node) -> str:
    ill = len(node.watch.problems())
    is_connected = "connected" if node.link.is_connected else "not connected"
    return (
        f"{is_connected} to master {settings.master_host}:{settings.port},"
        f" {len(node.watch.offered)} slots{f' ({ill} not fit for use)' if ill else ''},"
        f" {len(node.lives.running())} containers"
    )


def _identity(settings: AgentSettings, slots: tuple[Slot, ...]) -> Identity:
    return Identity(
        version=version("shipway"),
        resource_pool=settings.resource_pool,
        devices=tuple(
            Device(id=slot.id, brand=slot.brand, uuid=slot.uuid, type=slot.type) for slot in slots
        ),
        pci_buses={slot.uuid: slot.pci_bus for slot in slots if slot.pci_bus},
        facts=AgentFacts.of(settings),
    )


def _query(settings: AgentSettings) -> dict[str, str]:
    return {
        "id": settings.agent_id,
        "version": version("shipway"),
        "resource_pool": settings.resource_pool,
        "reconnect": "false",  # in the original's order; the link sets it
        "hostname": socket.gethostname(),
    }
