"""Our messages against the documented ones; the files in data/ are those of Determined 0.38.1."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

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
    FailureType,
    MasterOptions,
    OutputPlace,
    PullStats,
    Reattached,
    Running,
    SignalContainer,
    StartContainer,
    StateChanged,
)
from shipway_agent.master.wire import encode_message, parse_message
from shipway_agent.runtimes.spec import Address, ContainerId
from tests.agent.master.peer import compact, sample

ID = ContainerId("0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11")
GPU_0 = Device(
    id=0,
    brand="NVIDIA A100-SXM4-40GB",
    uuid="GPU-8f4c1a2e-0c6d-4c3b-9a5e-1d2c3b4a5f60",
    type="cuda",
)
GPU_1 = Device(
    id=1,
    brand="NVIDIA A100-SXM4-40GB",
    uuid="GPU-2b7d9c10-55aa-4f0e-8b1c-7a6e5d4c3b2a",
    type="cuda",
)


def container(state: State, **changes: Any) -> Container:
    return Container(**{"id": ID, "state": state, "devices": (GPU_1, GPU_0), **changes})


def test_options_are_read() -> None:
    assert parse_message(json.dumps(sample("options"))) == MasterOptions(
        master_id="5b1a2f0e-6a8c-4a6e-9c4e-3f1d7f2b9a10",
        cluster_id="f0c7c3a4-1f0d-4c5e-8a55-0d1a4c7e2b61",
        version="0.38.1",
        expected=(
            container(State.RUNNING),
            Container(id=ContainerId("6b0f3d1e-7c55-4e0a-9a0f-2f4f0d0b5c77")),
        ),
    )


def test_the_smallest_options_are_read() -> None:
    text = '{"MasterSetAgentOptions":{"MasterInfo":{"master_id":"m","cluster_id":"c"}}}'
    assert parse_message(text) == MasterOptions(
        master_id="m", cluster_id="c", version="", expected=()
    )


def test_orders_are_read() -> None:
    start = parse_message(json.dumps(sample("start")))
    assert isinstance(start, StartContainer)
    assert start.container == container(State.ASSIGNED, description="exp-12-trial-34-attempt-1")
    assert start.spec.text("TaskType") == "TRIAL"
    assert parse_message(json.dumps(sample("signal"))) == SignalContainer(container_id=ID, number=9)
    assert parse_message(json.dumps(sample("shutdown")).encode()) == AgentShutdown(
        message="agent is past reconnect period, it must restart"
    )


def test_keys_are_read_in_any_case_and_unknown_ones_ignored() -> None:
    text = '{"SIGNALCONTAINER": {"containerid": "a", "sIgNaL": 15, "New": {}}, "Else": 1}'
    assert parse_message(text) == SignalContainer(container_id=ContainerId("a"), number=15)


def test_an_unheard_state_of_an_expected_container_is_unknown() -> None:
    document = sample("options")
    document["MasterSetAgentOptions"]["ContainersToReattach"][0]["Container"]["state"] = "FROZEN"
    options = parse_message(json.dumps(document))
    assert isinstance(options, MasterOptions)
    assert options.expected[0].state is State.UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        "7",
        "[" * 100_000,
        '{"SignalContainer": null}',
        '{"SignalContainer": []}',
        '{"SignalContainer": {"Signal": 9}}',
        '{"SignalContainer": {"ContainerID": "a", "Signal": true}}',
        '{"StartContainer": {"Container": {"id": 7}}}',
        '{"StartContainer": {"Container": {"id": "a", "devices": [1]}}}',
    ],
    ids=lambda text: text[:30] or "empty",
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UnreadableMessage):
        parse_message(text)


def test_a_refusal_names_the_place() -> None:
    text = '{"StartContainer": {"Container": {"id": "a", "devices": [{"id": 1}, {"id": "2"}]}}}'
    with pytest.raises(UnreadableMessage, match=r"StartContainer\.Container\.devices\[1\]\.id is"):
        parse_message(text)


TIME = datetime(2024, 11, 5, 10, 11, 12, 345678, tzinfo=UTC)

written: dict[str, AgentMessage] = {
    "agent_started": AgentStarted(
        version="0.38.1",
        devices=(GPU_0, GPU_1),
        reattached=(
            Reattached(container=container(State.RUNNING, description="exp-12-trial-34-attempt-1")),
            Reattached(
                container=Container(id=ContainerId("6b0f3d1e-7c55-4e0a-9a0f-2f4f0d0b5c77")),
                failure=Failure(
                    type=FailureType.RESTORE_ERROR, message="container is gone on reattachment"
                ),
            ),
        ),
        resource_pool="default",
    ),
    "pulling": StateChanged(container=container(State.PULLING)),
    "succeeded": StateChanged(container=container(State.TERMINATED)),
    "failed": StateChanged(
        container=container(State.TERMINATED),
        failure=Failure(
            type=FailureType.CONTAINER_FAILED,
            message="container failed with non-zero exit code: 137",
            exit_code=137,
        ),
    ),
    "unknown_container": StateChanged(
        container=Container(id=ID, state=State.TERMINATED),
        failure=Failure(
            type=FailureType.CONTAINER_MISSING, message="container is gone on reattachment"
        ),
    ),
    "log": ContainerLog(
        container_id=ID,
        time=TIME,
        text="image not found, pulling image: registry.example.com/ml/env:1.4",
        agent_id="gpu-07",
    ),
    "pull_began": PullStats(
        container_id=ID,
        allocation_id="12.4f6e2a3c-90d4-4f0b-a8a9-1f6d0b7c2e55.1",
        task_type="TRIAL",
        time=TIME,
        ended=False,
    ),
    "pull_ended": PullStats(
        container_id=ID,
        allocation_id="12.4f6e2a3c-90d4-4f0b-a8a9-1f6d0b7c2e55.1",
        task_type="TRIAL",
        time=datetime(2024, 11, 5, 10, 12, 40, 751200, tzinfo=UTC),
        ended=True,
    ),
}


def without_nanoseconds(value: Any) -> Any:
    """Cut times to the microseconds that Python's have."""
    if isinstance(value, dict):
        return {key: without_nanoseconds(one) for key, one in value.items()}
    if isinstance(value, str) and value.startswith("2024-") and value.endswith("Z"):
        return value[:-1][:26] + "Z"
    return value


@pytest.mark.parametrize("name", written)
def test_what_we_write_is_what_the_original_writes_byte_for_byte(name: str) -> None:
    assert encode_message(written[name]) == compact(without_nanoseconds(sample(name)))


@pytest.mark.parametrize(
    ("microsecond", "text"), [(0, "12Z"), (500_000, "12.5Z"), (1, "12.000001Z")]
)
def test_times_have_no_zeros_at_their_end(microsecond: int, text: str) -> None:
    time = TIME.replace(microsecond=microsecond)
    message = ContainerLog(container_id=ID, time=time, text="", agent_id="a")
    assert f'"Timestamp":"2024-11-05T10:11:{text}"' in encode_message(message)


def test_a_state_change_does_not_repeat_the_masters_description() -> None:
    message = StateChanged(container=container(State.PULLING, description="cmd-1"))
    assert encode_message(message) == compact(sample("pulling"))


def test_running_carries_what_a_master_reads_of_a_docker_container() -> None:
    message = StateChanged(
        container=container(State.RUNNING),
        running=Running(
            native_id="9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0",
            network_mode="bridge",
            ports=(1734,),
            addresses=tuple(
                Address(container_ip="172.17.0.2", container_port=1734, host_ip=ip, host_port=32768)
                for ip in ("0.0.0.0", "::")
            ),
        ),
    )
    ours = json.loads(encode_message(message))["ContainerStateChanged"]
    theirs = sample("running")["ContainerStateChanged"]
    assert ours["Container"] == theirs["Container"]
    assert ours["ContainerStarted"]["ProxyAddress"] == ""
    info, full = (one["ContainerStarted"]["ContainerInfo"] for one in (ours, theirs))
    assert info["Id"] == full["Id"]
    assert info["HostConfig"]["NetworkMode"] == full["HostConfig"]["NetworkMode"]
    assert info["Config"]["ExposedPorts"] == full["Config"]["ExposedPorts"]
    assert info["NetworkSettings"]["Ports"] == full["NetworkSettings"]["Ports"]
    assert info["NetworkSettings"]["Networks"] == {"bridge": {"IPAddress": "172.17.0.2"}}


def test_output_goes_into_the_run_message_with_its_place() -> None:
    message = ContainerLog(
        container_id=ID,
        time=TIME.astimezone(timezone(timedelta(hours=5))),
        text="hello",
        agent_id="gpu-07",
        level="UNSPECIFIED",
        output=OutputPlace(stream="stderr", end=12),
    )
    assert json.loads(encode_message(message))["ContainerLog"] == {
        "ContainerID": ID,
        "Timestamp": "2024-11-05T10:11:12.345678Z",
        "Level": "UNSPECIFIED",
        "PullMessage": None,
        "RunMessage": {"Value": "hello", "StdType": 2, "Offset": 12},
        "AuxMessage": None,
        "Source": "task",
        "AgentID": "gpu-07",
    }


def test_text_of_any_kind_is_valid_json_in_ascii() -> None:
    odd = "día 😀 \udcff </script> \u2028 \x1b"
    text = encode_message(ContainerLog(container_id=ID, time=TIME, text=odd, agent_id="a"))
    assert text.isascii()
    assert json.loads(text)["ContainerLog"]["AuxMessage"] == odd
