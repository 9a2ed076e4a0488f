"""Finding the containers that an earlier process of this agent left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from shipway_agent.containers.labels import (
    cluster_of,
    description_of,
    device_ids_of,
    owner_filter,
)
from shipway_agent.containers.orders import Identity
from shipway_agent.containers.records import Record
from shipway_agent.containers.state import State
from shipway_agent.containers.surroundings import Surroundings
from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.master.messages import Container
from shipway_agent.runtimes.spec import ContainerId, ContainerState, Owned

log = logging.getLogger(__name__)

OUTPUT_LOST = (
    "output is missing from here on: the agent was restarted and found its record of this"
    " container lost or damaged; the container goes on"
)
"""Said in the task's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A container that another agent process started."""

    record: Record
    owned: Owned | None
    """None: the runtime does not know it."""
    is_guess: bool = False
    """The record was lost, and made up from what the runtime tells."""


async def find_left(around: Surroundings, identity: Identity) -> dict[ContainerId, Found]:
    """Bring together what the runtime has of this agent, of whatever cluster, and the records.

    Raises:
        ContainerRuntimeError: The runtime does not list them, or another one has some.
        OSError: The records cannot be read.
    """
    agent_id = identity.facts.agent_id
    listed = await around.runtime.list_owned(owner_filter(agent_id))
    records = await asyncio.to_thread(around.records.load_all, agent_id)
    _check_runtimes(records.values(), around)
    owned = {
        one.container_id: one
        for one in listed
        if one.container_id in records or not _was_kept(one, around)
    }
    found: dict[ContainerId, Found] = {}
    for container_id in {*owned, *records}:
        one = owned.get(container_id)
        record = records.get(container_id)
        is_guess = record is None
        if record is None:
            record = _record_from_labels(owned[container_id], around.runtime.name, identity)
        found[container_id] = Found(record=record, owned=one, is_guess=is_guess)
    return found


def _was_kept(owned: Owned, around: Surroundings) -> bool:
    """Tell whether a container without a record was left on purpose, for people to look at."""
    return around.keeps_ended and owned.state is ContainerState.EXITED


def _check_runtimes(records: Iterable[Record], around: Surroundings) -> None:
    """Refuse to take containers of another runtime for lost: it was just not asked."""
    name = around.runtime.name
    for record in records:
        if record.runtime != name and record.container.state is not State.TERMINATED:
            raise RuntimeUnavailable(
                f"container {record.container.id} runs under {record.runtime}, but {name} is used"
                f" now; get {record.runtime} to answer, or set container_runtime to it until the"
                f" container has ended, or delete the file"
                f" {around.records.path_of(record.container.id)} to give it up"
            )


def _record_from_labels(owned: Owned, runtime: str, identity: Identity) -> Record:
    """Make up for a lost record: whose it is and what it holds, but its output is not known."""
    ids = device_ids_of(owned.labels)
    log.error(
        "the record of a container is lost; its output is not brought to the master",
        extra={"container_id": owned.container_id},
    )
    return Record(
        agent_id=identity.facts.agent_id,
        cluster_id=cluster_of(owned.labels),
        runtime=runtime,
        container=Container(
            id=owned.container_id,
            state=State.STARTING,
            devices=tuple(device for device in identity.devices if device.id in ids),
            description=description_of(owned.labels),
        ),
        ships_output=False,
        ports=tuple(sorted({address.container_port for address in owned.addresses})),
        delivered={},
    )
