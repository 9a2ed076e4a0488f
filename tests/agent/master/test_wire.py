"""The whole agent against a peer that plays the documented talks; each message byte for byte.

The samples are those of Determined 0.38.1, with the devices of this agent in the place of theirs.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import AgentProcess
from tests.agent.master.peer import (
    Peer,
    Wire,
    compact,
    options,
    order,
    refusal,
    sample,
    with_devices,
)
from tests.agent.stand_in import MUST_RESTART

ID = "0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11"
OTHER = "6b0f3d1e-7c55-4e0a-9a0f-2f4f0d0b5c77"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z"
TARGET = "/determined_shared_fs"
GONE = {
    "FailureType": "container failed to restore after agent failure",
    "ErrMsg": "container is gone on reattachment",
    "ExitCode": None,
}


def started(
    devices: list[Any], reattached: list[Any] | None = None, *, pool: str = "default"
) -> str:
    """Write the agent's first message."""
    document = sample("agent_started")
    document["AgentStarted"] |= {
        "Version": version("shipway"),
        "Devices": devices,
        "ContainersReattached": reattached or [],
        "ResourcePoolName": pool,
    }
    return compact(document)


def told(name: str, devices: list[Any], **changes: Any) -> str:
    """Write a state change of the samples."""
    document = with_devices(sample(name), devices)
    document["ContainerStateChanged"] |= changes
    return compact(document)


def state_of(state: str, devices: list[Any], **changes: Any) -> str:
    container = json.loads(told("pulling", devices))["ContainerStateChanged"]["Container"]
    return told("pulling", devices, Container={**container, "state": state}, **changes)


def running(devices: list[Any], native_id: str) -> str:
    """Write the smallest RUNNING message that works; the sandbox uses the machine's network."""
    return state_of(
        "RUNNING",
        devices,
        ContainerStarted={
            "ProxyAddress": "",
            "ContainerInfo": {
                "Id": native_id,
                "HostConfig": {"NetworkMode": "host"},
                "Config": {"ExposedPorts": {"1734/tcp": {}, "12350/tcp": {}}},
                "NetworkSettings": {
                    "Ports": {
                        "1734/tcp": [{"HostIp": "", "HostPort": "1734"}],
                        "12350/tcp": [{"HostIp": "", "HostPort": "12350"}],
                    },
                    "Networks": {"host": {"IPAddress": ""}},
                },
            },
        },
    )


def start(known: list[Any], script: str, *, id_: str = ID, **container: Any) -> Any:
    """Make the start order of the samples, for this machine and with another program."""
    document = with_devices(sample("start"), known)
    document["StartContainer"]["Container"] |= {"id": id_, **container}
    run = document["StartContainer"]["Spec"]["RunSpec"]
    run["ContainerConfig"] |= {"Cmd": ["/bin/sh", "-c", script], "Image": ""}
    run["HostConfig"] |= {"Devices": None, "Mounts": None}
    return document


def waiting(known: list[Any], folder: Path, then: str, **changes: Any) -> Any:
    """Make a start order for a container that waits for the file `go` in *folder*."""
    script = f"until [ -e {TARGET}/go ]; do sleep 0.1; done; {then}"
    document = start(known, script, **changes)
    mount = {**sample("start")["StartContainer"]["Spec"]["RunSpec"]["HostConfig"]["Mounts"][0]}
    assert mount["Target"] == TARGET
    host = document["StartContainer"]["Spec"]["RunSpec"]["HostConfig"]
    host["Mounts"] = [{**mount, "Source": str(folder)}]
    return document


class Talk:
    """A websocket on which the agent has said what it has."""

    def __init__(self, wire: Wire, first: str) -> None:
        self.wire, self.first = wire, first
        self.devices: list[Any] = json.loads(first)["AgentStarted"]["Devices"]

    async def run(self, script: str) -> str:
        """Start a container and check what is said until it runs; returns its native id."""
        return await self.start(start(self.devices, script))

    async def start(self, order: Any) -> str:
        """Give a start order and check what is said until the container runs."""
        await self.wire.say(order)
        assert await self.wire.next_but_logs() == state_of("PULLING", self.devices)
        assert await self.wire.next_but_logs() == state_of("STARTING", self.devices)
        text = await self.wire.next_but_logs()
        started = json.loads(text)["ContainerStateChanged"]["ContainerStarted"]
        native_id: str = started["ContainerInfo"]["Id"]
        assert native_id
        assert text == running(self.devices, native_id)
        return native_id

    async def kill(self, *, id_: str = ID) -> None:
        await self.wire.say(order(SignalContainer={"ContainerID": id_, "Signal": 9}))

    async def nothing_more(self) -> None:
        """Check that the agent has nothing to say by itself: the next is the answer to a question."""
        question = "00000000-0000-0000-0000-000000000001"
        await self.kill(id_=question)
        answer = sample("unknown_container")
        answer["ContainerStateChanged"]["Container"]["id"] = question
        assert await self.wire.next_but_logs() == compact(answer)


async def talk_to(peer: Peer, first: Any) -> Talk:
    wire = await peer.greeted(first)
    return Talk(wire, await wire.next())


@pytest.fixture
async def talk(lone: AgentProcess, peer: Peer) -> Talk:
    await lone.start()
    return await talk_to(peer, options())


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder beside the agent's that the samples' user may enter and write to."""
    tmp_path.chmod(0o755)
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    return shared


# the dial


async def test_the_dial_is_the_documented_one(lone: AgentProcess, peer: Peer) -> None:
    await lone.start()
    wire = await peer.dialed()
    assert wire.request == (
        f"GET /agents?id=gpu-07&version={version('shipway')}&resource_pool=default"
        f"&reconnect=false&hostname={socket.gethostname()} HTTP/1.1"
    )
    assert wire.headers["upgrade"] == "websocket"
    assert wire.headers["sec-websocket-version"] == "13"
    unwanted = {"origin", "sec-websocket-extensions", "sec-websocket-protocol", "authorization"}
    assert unwanted.isdisjoint(wire.headers)


async def test_nothing_is_said_before_the_masters_options(lone: AgentProcess, peer: Peer) -> None:
    await lone.start()
    talk = await talk_to(peer, options())
    assert talk.first == started(talk.devices)
    assert [device["id"] for device in talk.devices] == [0, 1]
    await talk.nothing_more()


async def test_a_master_that_begins_with_something_else_is_left_and_dialed_again(
    lone: AgentProcess, peer: Peer
) -> None:
    await lone.start()
    for first in (sample("signal"), "{}", "null", "not json"):
        await (await peer.greeted(first)).over()
    talk = await talk_to(peer, options())
    assert "&reconnect=false&" in talk.wire.request


async def test_pings_are_answered_with_their_payload(talk: Talk) -> None:
    for payload in (b"", b"\x00\xff", b"x" * 125):
        assert await talk.wire.ping(payload) == payload


# one life


async def test_a_container_that_succeeds(talk: Talk) -> None:
    await talk.run("true")
    assert await talk.wire.next_but_logs() == told("succeeded", talk.devices)
    await talk.nothing_more()


async def test_a_container_that_is_killed(talk: Talk) -> None:
    await talk.run("sleep 1000")
    await talk.wire.say(sample("signal"))
    assert await talk.wire.next_but_logs() == told("failed", talk.devices)
    await talk.nothing_more()


async def test_a_container_without_devices(talk: Talk) -> None:
    await talk.wire.say(start(talk.devices, "true", devices=None))
    texts = [await talk.wire.next_but_logs() for _ in range(4)]
    containers = [json.loads(text)["ContainerStateChanged"]["Container"] for text in texts]
    assert [container["state"] for container in containers] == [
        "PULLING",
        "STARTING",
        "RUNNING",
        "TERMINATED",
    ]
    assert [container["devices"] for container in containers] == [None] * 4


async def test_an_order_of_many_megabytes_in_a_binary_frame_is_taken(talk: Talk) -> None:
    script = f"[ $(wc -c < /run/determined/wheel) = {24 << 20} ]"
    document = start(talk.devices, script)
    run = document["StartContainer"]["Spec"]["RunSpec"]
    item = {**run["Archives"][1]["Archive"][0], "path": "wheel", "content": "AAAA" * (8 << 20)}
    run["Archives"][1]["Archive"].append(item)
    await talk.wire.say_in_bytes(document)
    for state in ("PULLING", "STARTING"):
        assert await talk.wire.next_but_logs() == state_of(state, talk.devices)
    await talk.wire.next_but_logs()
    assert await talk.wire.next_but_logs() == told("succeeded", talk.devices)


async def test_the_agents_own_lines(talk: Talk) -> None:
    document = start(talk.devices, "true")
    image = "registry.example.com/ml/env:1.4"
    document["StartContainer"]["Spec"]["RunSpec"]["ContainerConfig"]["Image"] = image
    await talk.wire.say(document)
    while image not in (text := await talk.wire.next_log()):
        pass
    expected = sample("log")
    expected["ContainerLog"] |= {
        "Timestamp": "TIME",
        "AuxMessage": json.loads(text)["ContainerLog"]["AuxMessage"],
    }
    time = re.search(rf'"Timestamp":"({TIME})"', text)
    assert time
    assert text == compact(expected).replace("TIME", time[1])


async def test_a_refused_start_is_told_with_its_devices(talk: Talk) -> None:
    strange = [{**device, "uuid": "GPU-of-another"} for device in talk.devices]
    document = start(strange, "true")
    await talk.wire.say(document)
    text = await talk.wire.next()
    failure = json.loads(text)["ContainerStateChanged"]["ContainerStopped"]["Failure"]
    assert failure["FailureType"] == "agent failed to launch the container"
    assert "GPU-of-another" in failure["ErrMsg"]
    assert failure["ExitCode"] is None
    assert text == told("failed", strange, ContainerStopped={"Failure": failure})


async def test_a_start_of_a_container_that_is_here_already_changes_nothing(talk: Talk) -> None:
    await talk.run("sleep 1000")
    await talk.wire.say(start(talk.devices, "true"))
    await talk.nothing_more()


# signals


async def test_a_signal_for_an_unknown_container(talk: Talk) -> None:
    await talk.wire.say(sample("signal"))
    assert await talk.wire.next() == compact(sample("unknown_container"))


async def test_a_signal_for_an_ended_container_has_its_end_told_again(talk: Talk) -> None:
    await talk.run("kill -9 $$")
    for _ in range(3):
        assert await talk.wire.next_but_logs() == told("failed", talk.devices)
        await talk.wire.say(sample("signal"))


async def test_a_signal_that_does_not_exist_ends_nothing(talk: Talk) -> None:
    await talk.run("sleep 1000")
    for number in (0, 65, -1, 1 << 40):
        await talk.wire.say(order(SignalContainer={"ContainerID": ID, "Signal": number}))
    await talk.nothing_more()


async def test_a_kill_before_the_container_runs(talk: Talk) -> None:
    await talk.run("sleep 1000")
    await talk.wire.say(start(talk.devices, "true", id_=OTHER))  # it waits for the devices
    await talk.kill(id_=OTHER)
    answer = json.loads(told("failed", talk.devices))
    change = answer["ContainerStateChanged"]
    change["Container"]["id"] = OTHER
    change["ContainerStopped"]["Failure"] = {
        "FailureType": "container was aborted before it started",
        "ErrMsg": "killed before run",
        "ExitCode": None,
    }
    assert await talk.wire.next_but_logs() == compact(answer)


async def test_one_container_that_waits_keeps_no_other_waiting(talk: Talk) -> None:
    await talk.run("sleep 1000")
    await talk.wire.say(start(talk.devices, "true", id_=OTHER))  # it waits for the devices
    third = "11111111-2222-3333-4444-555555555555"
    await talk.wire.say(start(talk.devices, "true", id_=third, devices=None))
    states = [
        json.loads(await talk.wire.next_but_logs())["ContainerStateChanged"]["Container"]
        for _ in range(4)
    ]
    assert {container["id"] for container in states} == {third}
    assert states[-1]["state"] == "TERMINATED"


# a connection is lost (3.8)


async def test_what_the_agent_acknowledges_after_an_outage(talk: Talk, peer: Peer) -> None:
    await talk.run("sleep 1000")
    talk.wire.abort()
    again = await talk_to(peer, options((ID, "RUNNING", talk.devices), (OTHER, "", None)))
    assert again.wire.request == talk.wire.request.replace("reconnect=false", "reconnect=true")
    lives = json.loads(state_of("RUNNING", talk.devices))["ContainerStateChanged"]["Container"]
    gone = {**GONE, "ErrMsg": "failed to restore container on master blip"}
    unknown = {"id": OTHER, "state": "", "devices": None, "description": ""}
    assert again.first == started(
        talk.devices,
        [{"Container": lives, "Failure": None}, {"Container": unknown, "Failure": gone}],
    )
    await again.nothing_more()


async def test_progress_that_the_master_missed_follows_the_acknowledgement(
    talk: Talk, peer: Peer
) -> None:
    native_id = await talk.run("sleep 1000")
    texts = [state_of("PULLING", talk.devices), state_of("STARTING", talk.devices)]
    texts.append(running(talk.devices, native_id))
    for known, missed in (("", texts), ("PULLING", texts[1:]), ("STARTING", texts[2:])):
        talk.wire.abort()
        talk = await talk_to(peer, options((ID, known, talk.devices if known else None)))
        acknowledged = json.loads(talk.first)["AgentStarted"]["ContainersReattached"]
        states = [(one["Container"]["state"], one["Failure"]) for one in acknowledged]
        assert states == [(known, None)]
        assert [await talk.wire.next_but_logs() for _ in missed] == missed
        await talk.nothing_more()


async def test_an_end_during_an_outage_follows_the_acknowledgement(
    talk: Talk, peer: Peer, shared: Path
) -> None:
    await talk.start(waiting(talk.devices, shared, "kill -9 $$"))
    talk.wire.abort()
    (shared / "go").touch()
    while "container ended" not in lone_log(shared):
        (await peer.dialed()).abort()
    again = await talk_to(peer, options((ID, "RUNNING", talk.devices)))
    acknowledged = json.loads(again.first)["AgentStarted"]["ContainersReattached"]
    assert [one["Container"]["state"] for one in acknowledged] == ["RUNNING"]
    assert await again.wire.next_but_logs() == told("failed", talk.devices)
    await again.nothing_more()


def lone_log(shared: Path) -> str:
    return shared.with_name("agent.log").read_text()


async def test_more_ends_during_an_outage_than_the_original_remembers(
    talk: Talk, peer: Peer, shared: Path
) -> None:
    ids = [f"00000000-0000-0000-0000-{number:012}" for number in range(35)]
    for id_ in ids:
        await talk.wire.say(waiting(talk.devices, shared, "exit 7", id_=id_, devices=None))
    states: dict[str, str] = {}
    while list(states.values()).count("RUNNING") < len(ids):
        change = json.loads(await talk.wire.next_but_logs())["ContainerStateChanged"]
        states[change["Container"]["id"]] = change["Container"]["state"]
    talk.wire.abort()
    (shared / "go").touch()
    while lone_log(shared).count("container ended") < len(ids):
        (await peer.dialed()).abort()
    again = await talk_to(peer, options(*((id_, "RUNNING", None) for id_ in ids)))
    acknowledged = json.loads(again.first)["AgentStarted"]["ContainersReattached"]
    assert [one["Failure"] for one in acknowledged] == [None] * len(ids)
    codes: dict[str, int] = {}
    while len(codes) < len(ids):
        change = json.loads(await again.wire.next_but_logs())["ContainerStateChanged"]
        id_, failure = change["Container"]["id"], change["ContainerStopped"]["Failure"]
        codes[id_] = failure["ExitCode"]
    assert codes == dict.fromkeys(ids, 7)


async def test_later_containers_know_the_later_master(talk: Talk, peer: Peer) -> None:
    talk.wire.abort()
    renewed = options()
    renewed["MasterSetAgentOptions"]["MasterInfo"]["master_id"] = "the later one"
    again = await talk_to(peer, renewed)
    await again.run('[ "$DET_MASTER_ID" = "the later one" ]')
    assert await again.wire.next_but_logs() == told("succeeded", talk.devices)


async def test_a_close_of_any_kind_is_answered_and_followed_by_a_dial(
    talk: Talk, peer: Peer
) -> None:
    for code in (1000, 1001, 1008, 1009, 1011, 1012, 4000, None):
        await talk.wire.close(code)
        await talk.wire.over()
        assert talk.wire.close_code is not None
        talk = await talk_to(peer, options())
        assert "&reconnect=true&" in talk.wire.request


# another process of the agent (3.7)


async def test_what_a_new_process_acknowledges(talk: Talk, lone: AgentProcess, peer: Peer) -> None:
    await talk.run("sleep 1000")
    await lone.end(signal.SIGKILL)
    await lone.start()
    again = await talk_to(peer, options((ID, "RUNNING", talk.devices), (OTHER, "", None)))
    assert again.wire.request == talk.wire.request
    expected = with_devices(sample("agent_started"), talk.devices)
    expected["AgentStarted"]["Version"] = version("shipway")
    assert again.first == compact(expected)
    await again.nothing_more()


async def test_progress_while_the_agent_was_gone_is_told(
    talk: Talk, lone: AgentProcess, peer: Peer
) -> None:
    native_id = await talk.run("sleep 1000")
    await lone.end(signal.SIGKILL)
    await lone.start()
    again = await talk_to(peer, options((ID, "STARTING", talk.devices)))
    (one,) = json.loads(again.first)["AgentStarted"]["ContainersReattached"]
    assert (one["Container"]["state"], one["Failure"]) == ("STARTING", None)
    assert await again.wire.next_but_logs() == running(talk.devices, native_id)
    await again.kill()
    assert await again.wire.next_but_logs() == told("failed", talk.devices)


async def test_a_container_whose_record_is_lost_is_adopted_if_the_master_wants_it(
    talk: Talk, lone: AgentProcess, peer: Peer
) -> None:
    await talk.run("sleep 1000")
    await lone.end(signal.SIGKILL)
    (record,) = lone.records()
    record.unlink()
    await lone.start()
    again = await talk_to(peer, options((ID, "RUNNING", talk.devices[::-1])))
    expected = with_devices(sample("agent_started"), talk.devices)["AgentStarted"]
    (acknowledged,) = json.loads(again.first)["AgentStarted"]["ContainersReattached"]
    assert acknowledged == expected["ContainersReattached"][0]
    await again.kill()
    while (text := await again.wire.next_but_logs()) != told("failed", talk.devices):
        assert json.loads(text)["ContainerStateChanged"]["Container"]["state"] == "RUNNING"


async def test_a_container_whose_record_is_lost_is_ended_if_no_master_wants_it(
    talk: Talk, lone: AgentProcess, peer: Peer
) -> None:
    await talk.run("sleep 1000")
    await lone.end(signal.SIGKILL)
    (record,) = lone.records()
    record.unlink()
    assert os.listdir(lone.state_dir / "sandbox") == [ID]
    await lone.start()
    again = await talk_to(peer, options())
    assert again.first == started(talk.devices)
    await again.nothing_more()
    async with asyncio.timeout(20):
        while os.listdir(lone.state_dir / "sandbox"):  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.05)


# the end of an agent


async def test_a_stop_is_a_polite_close_and_ends_no_container(
    talk: Talk, lone: AgentProcess
) -> None:
    await talk.run("sleep 1000")
    assert await lone.end() == 0
    await talk.wire.over()
    assert (talk.wire.close_code, talk.wire.close_reason) == (1000, b"close called")
    assert len(lone.records()) == 1


async def test_a_shutdown_by_the_master_is_followed_by_a_new_registration(
    talk: Talk, peer: Peer
) -> None:
    await talk.wire.say(sample("shutdown"))
    await talk.wire.over()
    assert (talk.wire.close_code, talk.wire.close_reason) == (1000, b"close called")
    again = await talk_to(peer, options())
    assert again.wire.request == talk.wire.request
    assert again.first == talk.first


async def test_must_restart_is_followed_by_a_new_registration(talk: Talk, peer: Peer) -> None:
    peer.refusals.append(refusal(MUST_RESTART))
    talk.wire.abort()
    again = await talk_to(peer, options())
    assert ["reconnect=true" in request for request in peer.requests] == [False, True, False]
    assert again.first == talk.first


async def test_a_second_agent_of_one_id_says_who_the_first_is(
    lone: AgentProcess, peer: Peer
) -> None:
    text = "agent: websocket already connected, from 10.1.2.3 (host node-b)"
    peer.refusals.append(refusal(text))
    await lone.start()
    await peer.dialed()
    log = lone.log.read_text()
    assert f"500 {text}" in log
    assert "another agent with this id is connected" in log
