"""The messages of the agent websocket, JSON to types and back.

Each message is one JSON object of which exactly one member is not null. What an agent sends is
checked here, so that nothing behind this module meets a missing part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shipway_master.agents.addresses import read_addresses
from shipway_master.agents.devices import Device, dump_device, read_devices
from shipway_master.agents.fields import BadMessage, get, read_mapping, read_sequence, read_text
from shipway_master.allocations.exits import Failure, FailureType, parse_failure_type
from shipway_master.allocations.ids import ResourcesId
from shipway_master.allocations.life import ResourcesState
from shipway_master.allocations.rendezvous import Address

MUST_RESTART = "agent is past reconnect period, it must restart"
"""Agents look for exactly this text and then end their process instead of trying again."""

SIGKILL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerReport:
    """A container as an agent describes it."""

    id: ResourcesId
    state: ResourcesState
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reattached:
    """An agent's answer about one container that the master expects on it."""

    container: ContainerReport
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStarted:
    """The first message of every connection: what this agent has."""

    version: str
    devices: tuple[Device, ...]
    reattached: tuple[Reattached, ...]
    pool: str
    problems: Mapping[int, str] = field(default_factory=dict[int, str])
    """As in `SlotHealth`; agents other than ours do not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotHealth:
    """Which slots the agent wants no work for just now; the whole set each time.

    An addition of ours: only an agent that found `slot_health` in the options may send it.
    """

    problems: Mapping[int, str]
    """Why, by the id of the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A container runs."""

    addresses: tuple[Address, ...]
    native_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """A container ended; well when there is no failure."""

    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """A container entered a state; *started* and *stopped* go with RUNNING and TERMINATED."""

    container: ContainerReport
    started: Started | None = None
    stopped: Stopped | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLog:
    """One line about a container, or by it."""

    container_id: ResourcesId
    timestamp: datetime
    level: str
    text: str = field(repr=False)
    source: str
    agent_id: str | None
    stdtype: str | None
    """`stdout` or `stderr` when the task wrote it."""
    end_offset: int | None
    """Where the line ends in that stream, from agents that count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsRecord:
    """How long something took on the agent; only image pulls are measured."""

    allocation_id: str
    is_end: bool


FromAgent = AgentStarted | StateChanged | ContainerLog | StatsRecord | SlotHealth


def parse_message(text: str | bytes, *, peer_address: str) -> FromAgent:
    """Read what an agent sent.

    Args:
        peer_address: Where the agent's connection comes from; its containers are reached there.

    Raises:
        BadMessage: It is not a message that an agent may send.
    """
    try:
        loaded: Any = json.loads(text)
    except ValueError as error:
        raise BadMessage(f"not JSON: {error}") from error
    message = read_mapping(loaded, "message")
    members = [
        (name, body)
        for name in (
            "AgentStarted",
            "ContainerStateChanged",
            "ContainerLog",
            "ContainerStatsRecord",
            "SlotHealth",
        )
        if (body := get(message, name)) is not None
    ]
    if len(members) != 1:
        raise BadMessage(f"{len(members)} known members are set, exactly one must be")
    name, body = members[0]
    fields = read_mapping(body, name)
    match name:
        case "AgentStarted":
            return _read_agent_started(fields)
        case "ContainerStateChanged":
            return _read_state_changed(fields, peer_address)
        case "ContainerLog":
            return _read_log(fields)
        case "SlotHealth":
            return SlotHealth(problems=_read_problems(fields))
        case _:
            return _read_stats(fields)


def _read_agent_started(fields: Mapping[str, Any]) -> AgentStarted:
    reattached = [
        Reattached(
            container=_read_container(
                get(read_mapping(entry, "ContainersReattached"), "Container")
            ),
            failure=_read_failure(get(read_mapping(entry, "ContainersReattached"), "Failure")),
        )
        for entry in read_sequence(get(fields, "ContainersReattached"), "ContainersReattached")
    ]
    return AgentStarted(
        version=read_text(get(fields, "Version"), "Version"),
        devices=read_devices(get(fields, "Devices")),
        reattached=tuple(reattached),
        pool=read_text(get(fields, "ResourcePoolName"), "ResourcePoolName"),
        problems=_read_problems(get(fields, "SlotHealth")),
    )


def _read_problems(value: Any) -> dict[int, str]:
    fields = read_mapping(value or {}, "SlotHealth")
    problems: dict[int, str] = {}
    for key, text in read_mapping(get(fields, "Problems") or {}, "Problems").items():
        if not (key.isascii() and key.isdigit() and len(key) <= 9):
            raise BadMessage(f"SlotHealth.Problems: {key!r} is no id of a device")
        problems[int(key)] = read_text(text, f"SlotHealth.Problems.{key}") or "not told"
    return problems


def _read_container(value: Any) -> ContainerReport:
    fields = read_mapping(value, "Container")
    identifier = read_text(get(fields, "id"), "Container.id")
    if not identifier:
        raise BadMessage("Container.id is empty")
    state = read_text(get(fields, "state"), "Container.state")
    try:
        known = ResourcesState(state)
    except ValueError as error:
        raise BadMessage(f"Container.state {state!r} is none of the known states") from error
    return ContainerReport(
        id=ResourcesId(identifier), state=known, devices=read_devices(get(fields, "devices"))
    )


def _read_failure(value: Any) -> Failure | None:
    if value is None:
        return None
    fields = read_mapping(value, "Failure")
    text = read_text(get(fields, "FailureType"), "FailureType")
    message = read_text(get(fields, "ErrMsg"), "ErrMsg")
    kind = parse_failure_type(text)
    if kind is FailureType.UNKNOWN:
        message = f"{text}: {message}"
    code = get(fields, "ExitCode")
    if code is not None and (not isinstance(code, int) or isinstance(code, bool)):
        raise BadMessage(f"ExitCode {code!r} is not an integer")
    return Failure(type=kind, message=message, exit_code=code)


def _read_state_changed(fields: Mapping[str, Any], peer_address: str) -> StateChanged:
    container = _read_container(get(fields, "Container"))
    started, stopped = get(fields, "ContainerStarted"), get(fields, "ContainerStopped")
    if container.state is ResourcesState.RUNNING and started is None:
        raise BadMessage("a container in state RUNNING came without ContainerStarted")
    if container.state is ResourcesState.TERMINATED and stopped is None:
        raise BadMessage("a container in state TERMINATED came without ContainerStopped")
    return StateChanged(
        container=container,
        started=None if started is None else _read_started(started, peer_address),
        stopped=None
        if stopped is None
        else Stopped(failure=_read_failure(get(read_mapping(stopped, "Stopped"), "Failure"))),
    )


def _read_started(value: Any, peer_address: str) -> Started:
    fields = read_mapping(value, "ContainerStarted")
    proxy = read_text(get(fields, "ProxyAddress"), "ProxyAddress") or peer_address
    info = read_mapping(get(fields, "ContainerInfo") or {}, "ContainerInfo")
    return Started(
        addresses=tuple(read_addresses(info, proxy_address=proxy)),
        native_id=read_text(get(info, "Id"), "ContainerInfo.Id"),
    )


def _read_log(fields: Mapping[str, Any]) -> ContainerLog:
    run = get(fields, "RunMessage")
    stdtype = end_offset = None
    text = get(fields, "AuxMessage")
    if text is None and run is not None:
        run_fields = read_mapping(run, "RunMessage")
        text = read_text(get(run_fields, "Value"), "RunMessage.Value")
        text = text.removesuffix("\n")
        stdtype = "stderr" if get(run_fields, "StdType") == 2 else "stdout"
        end_offset = _read_offset(get(run_fields, "Offset"))
    if text is None:
        text = get(fields, "PullMessage")
    if text is None:
        raise BadMessage("a ContainerLog came without a text")
    agent_id = get(fields, "AgentID")
    return ContainerLog(
        container_id=ResourcesId(read_text(get(fields, "ContainerID"), "ContainerID")),
        timestamp=_read_time(get(fields, "Timestamp")),
        level=read_text(get(fields, "Level"), "Level") or "INFO",
        text=read_text(text, "text"),
        source=read_text(get(fields, "Source"), "Source") or "master",
        agent_id=None if agent_id is None else read_text(agent_id, "AgentID"),
        stdtype=stdtype,
        end_offset=end_offset,
    )


def _read_offset(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise BadMessage(f"Offset {value!r} is no offset")
    return value


def _read_time(value: Any) -> datetime:
    text = read_text(value, "Timestamp")
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :] if dot else ""
    try:  # up to nine digits come; this library reads six
        parsed = datetime.fromisoformat(f"{whole}.{digits[:6]:0<6}{zone}" if dot else whole)
    except ValueError as error:
        raise BadMessage(f"Timestamp {text!r} is not RFC 3339") from error
    if parsed.tzinfo is None:
        raise BadMessage(f"Timestamp {text!r} has no time zone")
    return parsed.astimezone(UTC)


def _read_stats(fields: Mapping[str, Any]) -> StatsRecord:
    stats = read_mapping(get(fields, "Stats") or {}, "Stats")
    return StatsRecord(
        allocation_id=read_text(get(stats, "AllocationID"), "Stats.AllocationID"),
        is_end=get(fields, "EndStats") is True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterInfo:
    """Who is talking; agents put these ids into their containers' environment and labels."""

    version: str
    master_id: str
    cluster_id: str
    cluster_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A container that should live on the agent."""

    id: ResourcesId
    state: ResourcesState
    devices: Sequence[Device]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """A container to start: where it sits and the rest of the message as JSON."""

    devices: Sequence[Device]
    description: str
    spec: Mapping[str, Any] = field(repr=False)


def render_options(info: MasterInfo, expected: Sequence[Expected] | None) -> str:
    """Write the first message of a connection.

    Args:
        expected: None for an agent that the master did not know: it then has none of ours.
    """
    return _render(
        "MasterSetAgentOptions",
        {
            "MasterInfo": {
                "version": info.version,
                "master_id": info.master_id,
                "cluster_id": info.cluster_id,
                "cluster_name": info.cluster_name,
                "telemetry": {"enabled": False, "otel_enabled": False, "otel_endpoint": ""},
                "sso_providers": None,
                # Ours: what this master understands beyond the protocol. Other agents ignore it.
                "shipway": {"slot_health": True},
            },
            "LoggingOptions": {"type": "default"},
            "ContainersToReattach": None
            if expected is None
            else [
                {
                    "Container": {
                        "id": item.id,
                        "state": item.state.value,
                        "devices": [dump_device(device) for device in item.devices] or None,
                        "description": "",
                    }
                }
                for item in expected
            ],
        },
    )


def render_start(container_id: ResourcesId, start: StartOrder) -> str:
    """Write the order to start a container."""
    return _render(
        "StartContainer",
        {
            "Container": {
                "id": container_id,
                "state": ResourcesState.ASSIGNED.value,
                "devices": [dump_device(device) for device in start.devices] or None,
                "description": start.description,
            },
            "Spec": start.spec,
        },
    )


def render_kill(container_id: ResourcesId) -> str:
    """Write the order to end a container at once."""
    return _render("SignalContainer", {"ContainerID": container_id, "Signal": SIGKILL})


def render_shutdown() -> str:
    """Write the order to end the agent's process, so that it comes back as a new agent."""
    return _render("AgentShutdown", {"ErrMsg": MUST_RESTART})


def _render(member: str, body: Mapping[str, Any]) -> str:
    message: dict[str, Any] = dict.fromkeys(
        ("MasterSetAgentOptions", "StartContainer", "SignalContainer", "AgentShutdown")
    )
    message[member] = body
    return json.dumps(message, separators=(",", ":"))
