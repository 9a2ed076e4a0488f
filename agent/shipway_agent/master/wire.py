"""The messages of agent and master as the JSON of the websocket.

Names inside JSON are the protocol's, letter for letter, and appear in this module only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from shipway_agent.containers.state import State
from shipway_agent.errors import UnreadableMessage
from shipway_agent.master.messages import (
    AgentMessage,
    AgentShutdown,
    AgentStarted,
    Container,
    ContainerLog,
    Device,
    Failure,
    MasterMessage,
    MasterOptions,
    PullStats,
    Running,
    SignalContainer,
    SlotHealth,
    StartContainer,
    StateChanged,
)
from shipway_agent.master.reading import JsonObject
from shipway_agent.runtimes.spec import ContainerId

Json = Mapping[str, object]

_encoder = json.JSONEncoder(separators=(",", ":"))


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
