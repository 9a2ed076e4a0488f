"""From a start order to what the container's own task needs; refusals come as early as possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from shipway_agent.containers.environment import AgentFacts, complete_environment
from shipway_agent.containers.labels import make_labels
from shipway_agent.containers.records import Record
from shipway_agent.containers.state import State
from shipway_agent.containers.translate import check_id, read_environment, translate
from shipway_agent.errors import StartRefused
from shipway_agent.master.messages import Device, MasterOptions, StartContainer
from shipway_agent.profiler.task import asks_for_profile
from shipway_agent.runtimes.spec import ContainerSpec

STOCK_SHIPPER = "ship-logs.sh"
"""Posts a task's output to the master by itself; the agent must not bring it again."""

MakeSpec = Callable[[], tuple[ContainerSpec, Record]]
"""Reads the rest of an order; blocking, for a big one takes its time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this agent is to the master."""

    version: str
    resource_pool: str
    devices: Sequence[Device]
    pci_buses: Mapping[str, str]
    """By UUID, for the devices that have one."""
    facts: AgentFacts


def check_order(
    order: StartContainer, identity: Identity, device_problem: Callable[[str], str | None]
) -> None:
    """Check an order as far as that is quick.

    Args:
        device_problem: Says of a device's UUID why it should not be used now.

    Raises:
        StartRefused: The container cannot be started as ordered.
    """
    check_id(order.container)
    for device in order.container.devices or ():
        if device not in identity.devices:
            raise StartRefused(
                f"this agent has no device {device.id} ({device.brand}, {device.uuid},"
                f" {device.type})"
            )
        if problem := device_problem(device.uuid):
            raise StartRefused(f"device {device.uuid} is not fit for use: {problem}")


def first_record(
    order: StartContainer, identity: Identity, options: MasterOptions, runtime: str
) -> Record:
    """Return the record of a container of which only the order is known."""
    return Record(
        agent_id=identity.facts.agent_id,
        cluster_id=options.cluster_id,
        runtime=runtime,
        container=replace(order.container, state=State.ASSIGNED),
        delivered={},
    )


def spec_maker(
    order: StartContainer, identity: Identity, options: MasterOptions, record: Record
) -> MakeSpec:
    """Return what reads the rest of *order* and completes its *record*."""
    facts = identity.facts

    def make_spec() -> tuple[ContainerSpec, Record]:
        ordered = read_environment(order)
        spec = translate(
            order,
            environment=complete_environment(ordered, facts, options, order.container),
            labels=make_labels(order.container, options, facts.agent_id),
            pci_buses=identity.pci_buses,
        )
        return spec, replace(
            record,
            allocation_id=ordered.get("DET_ALLOCATION_ID", ""),
            task_id=ordered.get("DET_TASK_ID", ""),
            task_type=order.spec.text("TaskType"),
            image=spec.image or "",
            trial_id=ordered.get("DET_TRIAL_ID") or None,
            session_token=ordered.get("DET_SESSION_TOKEN") or None,
            profiles=asks_for_profile(ordered),
            ships_output=not _ships_itself(spec),
            network_mode=spec.network_mode,
            ports=spec.ports,
        )

    return make_spec


def _ships_itself(spec: ContainerSpec) -> bool:
    """Tell whether the container begins with the original's shipper; it may also be an argument."""
    program = next(iter((*(spec.entrypoint or ()), *spec.argv)), "")
    return program.rpartition("/")[2] == STOCK_SHIPPER
