"""What agent and master say to each other, as types of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from shipway_agent.containers.state import State
from shipway_agent.master.reading import JsonObject
from shipway_agent.runtimes.spec import Address, ContainerId, Stream

Level = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "UNSPECIFIED"]


class FailureType(StrEnum):
    """Why a container ended; the values are the wire's."""

    CONTAINER_FAILED = "container failed with non-zero exit code"
    CONTAINER_ABORTED = "container was aborted before it started"
    CONTAINER_MISSING = "request for action on unknown container"
    TASK_ERROR = "task failed without an associated exit code"
    AGENT_FAILED = "agent failed while the container was running"
    RESTORE_ERROR = "container failed to restore after agent failure"
    AGENT_ERROR = "agent failed to launch the container"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A slot as the master knows it; it must come back in orders exactly as it was told."""

    id: int
    brand: str
    uuid: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as both sides name it."""

    id: ContainerId
    state: State = State.UNKNOWN
    devices: tuple[Device, ...] | None = None
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a container failed."""

    type: FailureType
    message: str
    exit_code: int | None = None


# From the master


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """The first message on every socket."""

    master_id: str
    cluster_id: str
    version: str
    expected: tuple[Container, ...]
    """Containers that the master believes to be here."""
    wants_slot_health: bool = False
    """Ours alone: other masters know no such message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer:
    """An order to run a container; `spec` is read only when the order is carried out."""

    container: Container
    spec: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalContainer:
    """An order to send a signal to a container."""

    container_id: ContainerId
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentShutdown:
    """The master does not want this agent as it is."""

    message: str


MasterMessage = MasterOptions | StartContainer | SignalContainer | AgentShutdown


# To the master


@dataclass(frozen=True, slots=True, kw_only=True)
class Reattached:
    """What became of a container that the master expects here."""

    container: Container
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted:
    """The agent's first message on every socket."""

    version: str
    devices: Sequence[Device]
    reattached: Sequence[Reattached]
    resource_pool: str
    problems: Mapping[int, str] | None = None
    """As in `SlotHealth`; None for a master that does not want it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotHealth:
    """Which slots should get no work; only for a master that `wants_slot_health`."""

    problems: Mapping[int, str]
    """Why, by slot; those that are not in it are fit for use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What the master wants to know of a container that runs."""

    native_id: str
    network_mode: str
    ports: tuple[int, ...] = ()
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """A container came to another state."""

    container: Container
    running: Running | None = None
    """Set exactly when the state is RUNNING."""
    failure: Failure | None = None
    """With TERMINATED only; None there means success."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlace:
    """Where in a container's output a line was."""

    stream: Stream
    end: int
    """Offset in the stream behind the line; a master that keeps it can drop what came twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLog:
    """A line for the task's log: of the task itself, or of the agent about it."""

    container_id: ContainerId
    time: datetime
    text: str
    agent_id: str
    level: Level = "INFO"
    output: OutputPlace | None = None
    """None: the agent's own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullStats:
    """An image pull began (`ended` false) or ended at `time`."""

    container_id: ContainerId
    allocation_id: str
    task_type: str
    time: datetime
    ended: bool


AgentMessage = AgentStarted | StateChanged | ContainerLog | PullStats | SlotHealth
