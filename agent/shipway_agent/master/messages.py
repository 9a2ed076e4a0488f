"""What agent and master say to each other, as types of ours and as the JSON of the websocket.

Names inside JSON are the protocol's, letter for letter, and appear in this module only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from shipway_agent.containers.state import State
from shipway_agent.errors import UnreadableMessage
from shipway_agent.master.reading import JsonObject
from shipway_agent.runtimes.spec import Address, ContainerId, Stream

Level = Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "UNSPECIFIED"]
Json = Mapping[str, object]

_encoder = json.JSONEncoder(separators=(",", ":"))


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


def parse_message(text: str | bytes) -> MasterMessage:
    """Read one message of the master.

    Raises:
        UnreadableMessage: It is no JSON, of no known kind, or a member is of the wrong type.
    """
    document = JsonObject.parse(text)
    if document is not None:
        if options := document.child("MasterSetAgentOptions"):
            return _parse_options(options)
        if start := document.child("StartContainer"):
            container = _parse_container(start.section("Container"))
            return StartContainer(container=container, spec=start.section("Spec"))
        if signal := document.child("SignalContainer"):
            return SignalContainer(
                container_id=_container_id(signal, "ContainerID"), number=signal.integer("Signal")
            )
        if shutdown := document.child("AgentShutdown"):
            return AgentShutdown(message=shutdown.text("ErrMsg"))
    kinds = ", ".join(document.keys()) if document else ""
    raise UnreadableMessage(f"a message without any part that we know (it has: {kinds or 'none'})")


def _parse_options(options: JsonObject) -> MasterOptions:
    info = options.section("MasterInfo")
    return MasterOptions(
        master_id=info.text("master_id"),
        cluster_id=info.text("cluster_id"),
        version=info.text("version"),
        expected=tuple(
            _parse_container(entry.section("Container"))
            for entry in options.objects("ContainersToReattach") or []
        ),
        wants_slot_health=info.section("shipway").flag("slot_health"),
    )


def _parse_container(container: JsonObject) -> Container:
    state = container.text("state")
    try:
        known_state = State(state)
    except ValueError:
        known_state = State.UNKNOWN  # a newer master's word; what we know of the container counts
    devices = container.objects("devices")
    return Container(
        id=_container_id(container, "id"),
        state=known_state,
        devices=None if devices is None else tuple(_parse_device(device) for device in devices),
        description=container.text("description"),
    )


def _container_id(holder: JsonObject, key: str) -> ContainerId:
    value = holder.text(key)
    if not value:
        raise UnreadableMessage(f"{holder.path_to(key)} is missing or empty")
    return ContainerId(value)


def _parse_device(device: JsonObject) -> Device:
    return Device(
        id=device.integer("id"),
        brand=device.text("brand"),
        uuid=device.text("uuid"),
        type=device.text("type"),
    )


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


def encode_message(message: AgentMessage) -> str:
    """Write one message as the JSON text of a frame."""
    if isinstance(message, ContainerLog):
        return _encode_log(message)
    document: dict[str, object] = {
        "AgentStarted": None,
        "ContainerStateChanged": None,
        "ContainerLog": None,
        "ContainerStatsRecord": None,
    }
    match message:
        case StateChanged():
            document["ContainerStateChanged"] = _state_json(message)
        case PullStats():
            document["ContainerStatsRecord"] = _stats_json(message)
        case AgentStarted():
            document["AgentStarted"] = _started_json(message)
        case SlotHealth():
            document["SlotHealth"] = _health_json(message.problems)
    return _encoder.encode(document)


def _started_json(message: AgentStarted) -> Json:
    health = {} if message.problems is None else {"SlotHealth": _health_json(message.problems)}
    return {
        **health,
        "Version": message.version,
        "Devices": [_device_json(device) for device in message.devices],
        "ContainersReattached": [
            {
                "Container": _container_json(one.container),
                "Failure": _failure_json(one.failure),
            }
            for one in message.reattached
        ],
        "ResourcePoolName": message.resource_pool,
    }


def _health_json(problems: Mapping[int, str]) -> Json:
    return {"Problems": {str(number): problem for number, problem in sorted(problems.items())}}


def _state_json(message: StateChanged) -> Json:
    started = stopped = None
    if message.container.state is State.RUNNING:
        # The Go master follows these without looking, so none may be missing.
        assert message.running is not None
        started = {"ProxyAddress": "", "ContainerInfo": _inspect_json(message.running)}
    elif message.container.state is State.TERMINATED:
        stopped = {"Failure": _failure_json(message.failure)}
    return {
        # Without its description, as the original tells it: the master gave it that.
        "Container": _container_json(replace(message.container, description="")),
        "ContainerStarted": started,
        "ContainerStopped": stopped,
    }


def _inspect_json(running: Running) -> Json:
    """Write the part of a Docker inspect answer that a master reads."""
    ports: dict[str, list[Json]] = {}
    nothing: Json = {}
    networks: dict[str, Json] = {}
    for address in running.addresses:
        bindings = ports.setdefault(f"{address.container_port}/tcp", [])
        binding = {"HostIp": address.host_ip, "HostPort": str(address.host_port)}
        if binding not in bindings and address.host_port > 0:
            bindings.append(binding)
        # One network only: a master that multiplies bindings by networks would see two addresses
        # for one port, and a distributed trial needs exactly one.
        networks = networks or {running.network_mode: {"IPAddress": address.container_ip}}
    return {
        "Id": running.native_id,
        "HostConfig": {"NetworkMode": running.network_mode},
        "Config": {"ExposedPorts": {f"{port}/tcp": nothing for port in running.ports}},
        "NetworkSettings": {"Ports": ports, "Networks": networks},
    }


def _encode_log(message: ContainerLog) -> str:
    """Write a log line by hand: there is one for each line of each task."""
    quote, text, output = _encoder.encode, _encoder.encode(message.text), message.output
    if output is None:
        source, aux_message, run_message = "agent", text, "null"
    else:
        # "Offset" is ours: other masters ignore keys they do not know.
        number = 1 if output.stream == "stdout" else 2
        run_message = f'{{"Value":{text},"StdType":{number},"Offset":{output.end}}}'
        source, aux_message = "task", "null"
    return (
        '{"AgentStarted":null,"ContainerStateChanged":null,"ContainerLog":{'
        f'"ContainerID":{quote(message.container_id)},'
        f'"Timestamp":"{_time_json(message.time)}",'
        f'"Level":"{message.level}",'
        '"PullMessage":null,'
        f'"RunMessage":{run_message},'
        f'"AuxMessage":{aux_message},'
        f'"Source":"{source}",'
        f'"AgentID":{quote(message.agent_id)}'
        '},"ContainerStatsRecord":null}'
    )


def _stats_json(message: PullStats) -> Json:
    time = _time_json(message.time)
    return {
        "EndStats": message.ended,
        "Stats": {
            "AllocationID": message.allocation_id,
            "EventType": "IMAGEPULL",
            "ContainerID": message.container_id,
            "StartTime": None if message.ended else time,
            "EndTime": time if message.ended else None,
        },
        "TaskType": message.task_type,
    }


def _container_json(container: Container) -> Json:
    devices = container.devices
    return {
        "id": container.id,
        "state": str(container.state),
        "devices": None if devices is None else [_device_json(device) for device in devices],
        "description": container.description,
    }


def _device_json(device: Device) -> Json:
    return {
        "id": device.id,
        "brand": device.brand,
        "uuid": device.uuid,
        "type": device.type,
    }


def _failure_json(failure: Failure | None) -> Json | None:
    if failure is None:
        return None
    return {
        "FailureType": str(failure.type),
        "ErrMsg": failure.message,
        "ExitCode": failure.exit_code,
    }


def _time_json(time: datetime) -> str:
    text = time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    return text.rstrip("0").rstrip(".") + "Z"
