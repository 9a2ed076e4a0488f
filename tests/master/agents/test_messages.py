"""Messages of the websocket, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_master.agents.devices import Device
from shipway_master.agents.fields import BadMessage
from shipway_master.agents.messages import (
    AgentStarted,
    ContainerLog,
    Expected,
    MasterInfo,
    StartOrder,
    StateChanged,
    parse_message,
    render_kill,
    render_options,
    render_shutdown,
    render_start,
)
from shipway_master.allocations.exits import FailureType
from shipway_master.allocations.ids import ResourcesId
from shipway_master.allocations.life import ResourcesState

ID = "0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11"
NAMES = ("AgentStarted", "ContainerStateChanged", "ContainerLog", "ContainerStatsRecord")


def message(**member: Any) -> str:
    """Write a union object."""
    return json.dumps(dict.fromkeys(NAMES) | member)


def state_changed(state: str, **parts: Any) -> str:
    """Write a state change of a container without devices."""
    container = {"id": ID, "state": state, "devices": None, "description": ""}
    body = {"Container": container, "ContainerStarted": None, "ContainerStopped": None} | parts
    return message(ContainerStateChanged=body)


def log(**changes: Any) -> str:
    """Write a log message."""
    body = {
        "ContainerID": ID,
        "Timestamp": "2024-11-05T10:11:12.345678901Z",
        "Level": "INFO",
        "PullMessage": None,
        "RunMessage": None,
        "AuxMessage": "image found",
        "Source": "agent",
        "AgentID": "gpu-07",
    }
    return message(ContainerLog=body | changes)


def parse(text: str) -> Any:
    """Read a message that came from 10.1.2.3."""
    return parse_message(text, peer_address="10.1.2.3")


def test_an_agent_says_what_it_has() -> None:
    read = parse(
        message(
            AgentStarted={
                "Version": "0.38.1",
                "Devices": [{"id": 0, "brand": "A100", "uuid": "GPU-1", "type": "cuda"}],
                "ContainersReattached": [
                    {
                        "Container": {"id": ID, "state": "", "devices": None, "description": ""},
                        "Failure": {
                            "FailureType": "container failed to restore after agent failure",
                            "ErrMsg": "container is gone on reattachment",
                            "ExitCode": None,
                        },
                    }
                ],
                "ResourcePoolName": "default",
            }
        )
    )
    assert isinstance(read, AgentStarted)
    assert read.devices == (Device(id=0, brand="A100", uuid="GPU-1", type="cuda"),)
    failure = read.reattached[0].failure
    assert failure is not None
    assert failure.type is FailureType.RESTORE_ERROR


def test_devices_may_be_null() -> None:
    read = parse(message(AgentStarted={"Devices": None, "ContainersReattached": None}))
    assert read.devices == ()


def test_keys_are_read_in_any_letter_case() -> None:
    read = parse(json.dumps({"agentstarted": {"VERSION": "1", "devices": []}}))
    assert read.version == "1"


@pytest.mark.parametrize("device_type", ["cuda", "", "tpu"])
def test_a_device_type_nobody_has_heard_of_is_kept(device_type: str) -> None:
    device = {"id": 0, "brand": "b", "uuid": "u", "type": device_type}
    assert parse(message(AgentStarted={"Devices": [device]})).devices[0].type == device_type


def test_a_failure_type_nobody_has_heard_of_keeps_its_text() -> None:
    failure = {"FailureType": "eaten by a grue", "ErrMsg": "yes", "ExitCode": None}
    read = parse(state_changed("TERMINATED", ContainerStopped={"Failure": failure}))
    assert isinstance(read, StateChanged)
    assert read.stopped is not None
    assert read.stopped.failure is not None
    assert read.stopped.failure.type is FailureType.UNKNOWN
    assert read.stopped.failure.message == "eaten by a grue: yes"


@pytest.mark.parametrize(
    ("published", "proxy", "expected"),
    [
        ("two", "10.1.2.3", [("10.1.2.3", 32768, "172.17.0.2", 1734)]),
        ("two", "[::1]", [("[::1]", 32768, "172.17.0.2", 1734)]),
        ("two", "node1", [("node1", 32768, "172.17.0.2", 1734)]),
        ("host", "10.1.2.3", [("10.1.2.3", 1734, "10.1.2.3", 1734)]),
        ("none", "10.1.2.3", []),
    ],
)
def test_addresses_of_a_container(
    published: str, proxy: str, expected: list[tuple[str, int, str, int]]
) -> None:
    two = [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}]
    info = {
        "Id": "f" * 64,
        "HostConfig": {"NetworkMode": "host" if published == "host" else "bridge"},
        "Config": {"ExposedPorts": {"1734/tcp": {}}},
        "NetworkSettings": {
            "Ports": {"1734/tcp": two if published == "two" else None},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
        },
    }
    started = {"ProxyAddress": proxy, "ContainerInfo": info}
    read = parse(state_changed("RUNNING", ContainerStarted=started))
    assert [
        (one.host_ip, one.host_port, one.container_ip, one.container_port)
        for one in read.started.addresses
    ] == expected


def test_without_a_proxy_address_the_peer_s_is_taken() -> None:
    info = {"HostConfig": {"NetworkMode": "host"}, "Config": {"ExposedPorts": {"80/tcp": {}}}}
    started = {"ProxyAddress": "", "ContainerInfo": info}
    read = parse(state_changed("RUNNING", ContainerStarted=started))
    assert read.started.addresses[0].host_ip == "10.1.2.3"


@pytest.mark.parametrize(
    ("changes", "text", "stdtype"),
    [
        ({}, "image found", None),
        ({"AuxMessage": None, "PullMessage": "10%"}, "10%", None),
        ({"AuxMessage": None, "RunMessage": {"Value": "out\n", "StdType": 1}}, "out", "stdout"),
        ({"AuxMessage": None, "RunMessage": {"Value": "err", "StdType": 2}}, "err", "stderr"),
        ({"RunMessage": {"Value": "second", "StdType": 1}}, "image found", "stdout"),
    ],
)
def test_the_text_of_a_log(changes: dict[str, Any], text: str, stdtype: str | None) -> None:
    read = parse(log(**changes))
    assert isinstance(read, ContainerLog)
    assert read.text == text
    if "RunMessage" in changes and changes.get("AuxMessage", "") is None:
        assert read.stdtype == stdtype


def test_nine_digits_of_a_second_are_read() -> None:
    assert parse(log()).timestamp.isoformat() == "2024-11-05T10:11:12.345678+00:00"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        "[]",
        '{"Unknown": {}}',
        message(),
        message(AgentStarted={}, ContainerLog={}),
        message(AgentStarted=[]),
        message(AgentStarted={"Devices": [{"id": "0"}]}),
        message(AgentStarted={"Devices": [{"id": 2**40}]}),
        state_changed("RUNNING"),
        state_changed("TERMINATED"),
        state_changed("FLYING"),
        state_changed("TERMINATED", ContainerStopped={"Failure": {"ExitCode": "7"}}),
        log(AuxMessage=None),
        log(Timestamp="yesterday"),
        log(Timestamp="2024-11-05T10:11:12"),
        log(Timestamp=17),
        log(AuxMessage=None, RunMessage={"Value": "x", "StdType": 1, "Offset": -1}),
    ],
)
def test_what_no_agent_may_send_is_refused(text: str) -> None:
    with pytest.raises(BadMessage):
        parse(text)


def test_a_host_port_that_is_no_number_is_refused() -> None:
    info = {
        "HostConfig": {"NetworkMode": "bridge"},
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "x"}]},
            "Networks": {"bridge": {}},
        },
    }
    started = {"ProxyAddress": "", "ContainerInfo": info}
    with pytest.raises(BadMessage, match="'x'"):
        parse(state_changed("RUNNING", ContainerStarted=started))


INFO = MasterInfo(version="0.38.1", master_id="m", cluster_id="c", cluster_name="n")


def test_the_first_message_to_a_new_agent_expects_nothing() -> None:
    written = json.loads(render_options(INFO, None))
    options = written["MasterSetAgentOptions"]
    assert options["ContainersToReattach"] is None
    assert options["LoggingOptions"] == {"type": "default"}
    assert [written[name] for name in ("StartContainer", "SignalContainer", "AgentShutdown")] == [
        None,
        None,
        None,
    ]


def test_expected_containers_are_named_with_their_devices() -> None:
    device = Device(id=1, brand="A100", uuid="GPU-1", type="cuda")
    expected = Expected(id=ResourcesId(ID), state=ResourcesState.RUNNING, devices=[device])
    written = json.loads(render_options(INFO, [expected]))
    assert written["MasterSetAgentOptions"]["ContainersToReattach"] == [
        {
            "Container": {
                "id": ID,
                "state": "RUNNING",
                "devices": [{"id": 1, "brand": "A100", "uuid": "GPU-1", "type": "cuda"}],
                "description": "",
            }
        }
    ]


def test_signals_are_numbers() -> None:
    assert json.loads(render_kill(ResourcesId(ID)))["SignalContainer"] == {
        "ContainerID": ID,
        "Signal": 9,
    }


def test_a_start_without_devices_has_null_devices() -> None:
    order = StartOrder(devices=(), description="cmd-1", spec={})
    container = json.loads(render_start(ResourcesId(ID), order))["StartContainer"]["Container"]
    assert container == {"id": ID, "state": "ASSIGNED", "devices": None, "description": "cmd-1"}


def test_an_agent_that_must_restart_is_told_in_the_words_it_knows() -> None:
    told = json.loads(render_shutdown())["AgentShutdown"]["ErrMsg"]
    assert told == "agent is past reconnect period, it must restart"
