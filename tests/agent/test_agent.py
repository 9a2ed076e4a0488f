"""The whole agent against a stand-in master, with real containers of the sandbox."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from aiohttp import web

from tests.agent.conftest import AgentProcess
from tests.agent.stand_in import MUST_RESTART, StandInMaster


@pytest.fixture
async def connected(agent: AgentProcess, master: StandInMaster) -> AgentProcess:
    await agent.start()
    await master.connected()
    return agent


async def test_the_agent_says_who_it_is(connected: AgentProcess, master: StandInMaster) -> None:
    dial, hello = master.dials[0], master.hellos[0]
    assert list(dial) == ["id", "version", "resource_pool", "reconnect", "hostname"]
    assert dial["id"] == "node one"
    assert dial["reconnect"] == "false"
    assert hello["ResourcePoolName"] == dial["resource_pool"] == "default"
    assert hello["ContainersReattached"] == []
    assert [(device["id"], device["type"]) for device in hello["Devices"]] == [
        (0, "cpu"),
        (1, "cpu"),
    ]


async def test_a_container_goes_through_its_states_and_its_output_arrives(
    connected: AgentProcess, master: StandInMaster
) -> None:
    script = "echo hello; pwd; cat greeting; echo WARNING: hot >&2; printf end; exit 7"
    seen = await master.ended(
        await master.start(
            "/bin/sh", "-c", script, files={"/run/determined/workdir/greeting": b"hi there\n"}
        )
    )
    assert seen.states == ["PULLING", "STARTING", "RUNNING", "TERMINATED"]
    assert seen.output() == ["hello", "/run/determined/workdir", "hi there", "end"]
    assert seen.output("stderr") == ["hot"]
    levels = {
        line["RunMessage"]["Value"]: line["Level"] for line in seen.logs if line["RunMessage"]
    }
    assert levels["hot"] == "WARNING"
    assert levels["hello"] == "UNSPECIFIED"
    assert {line["Source"] for line in seen.logs if line["RunMessage"]} == {"task"}
    assert seen.failure == {
        "FailureType": "container failed with non-zero exit code",
        "ErrMsg": "container failed with non-zero exit code: 7",
        "ExitCode": 7,
    }
    info = (seen.running or {})["ContainerInfo"]
    assert info["HostConfig"]["NetworkMode"] == "host"
    assert info["Config"]["ExposedPorts"] == {"1734/tcp": {}}


async def test_the_container_learns_where_it_runs(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/usr/bin/env", slots=2, environment=["A=b=c", "A=last"])
    seen = await master.ended(container_id)
    environment = dict(line.split("=", 1) for line in seen.output())
    assert environment["DET_MASTER"] == f"http://127.0.0.1:{master.port}"
    assert environment["DET_MASTER_PORT"] == str(master.port)
    assert environment["DET_AGENT_ID"] == "node one"
    assert environment["DET_CLUSTER_ID"] == master.cluster_id
    assert environment["DET_CONTAINER_ID"] == container_id
    assert environment["DET_SLOT_IDS"] == "[0,1]"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert environment["A"] == "last"
    assert seen.failure is None


async def test_an_ended_container_leaves_nothing_behind(
    connected: AgentProcess, master: StandInMaster
) -> None:
    await master.ended(await master.start("/bin/true"))
    await connected.forgot_all()
    left = [path for path in connected.state_dir.rglob("*") if path.is_file()]
    assert [path for path in left if "containers" in path.parts] == []


async def test_a_running_container_is_killed(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sh", "-c", "trap '' TERM; echo up; sleep 1000")
    seen = await master.reached(container_id, "RUNNING")
    await master.until(lambda: seen.output() == ["up"])
    await master.signal(container_id)
    await master.ended(container_id)
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 137


async def test_another_signal_reaches_the_program(
    connected: AgentProcess, master: StandInMaster
) -> None:
    script = "trap 'echo heard; exit 3' USR1; echo up; while :; do sleep 0.1; done"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    await master.until(lambda: "up" in seen.output())
    await master.signal(container_id, signal.SIGUSR1)
    await master.ended(container_id)
    assert seen.output() == ["up", "heard"]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 3


async def test_a_signal_for_an_ended_container_tells_its_end_again(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sh", "-c", "exit 5")
    seen = await master.ended(container_id)
    seen.states.clear()
    await master.signal(container_id)
    await master.ended(container_id)
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 5


async def test_a_signal_for_an_unknown_container_is_answered(
    connected: AgentProcess, master: StandInMaster
) -> None:
    await master.signal("0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11")
    await master.until(lambda: bool(master.containers))
    assert master.containers["0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11"].states == ["TERMINATED"]


async def test_a_program_that_does_not_exist_is_no_exit_of_the_task(
    connected: AgentProcess, master: StandInMaster
) -> None:
    seen = await master.ended(await master.start("/no/such/program"))
    assert seen.states == ["PULLING", "STARTING", "TERMINATED"]
    assert seen.failure is not None
    assert seen.failure["FailureType"] == "task failed without an associated exit code"
    assert seen.failure["ErrMsg"].startswith("starting container: ")
    assert "/no/such/program" in seen.failure["ErrMsg"]


async def test_starts_with_devices_the_agent_did_not_offer_are_refused(
    connected: AgentProcess, master: StandInMaster
) -> None:
    device = master.hellos[0]["Devices"][0]
    for change in ({"uuid": "GPU-of-somebody-else"}, {"brand": "Better"}):
        seen = await master.ended(await master.start("/bin/true", devices=[{**device, **change}]))
        assert seen.states == ["TERMINATED"]
        assert seen.failure is not None
        assert seen.failure["FailureType"] == "agent failed to launch the container"
        assert "no device" in seen.failure["ErrMsg"]


async def test_starts_that_cannot_be_read_are_refused_by_name(
    connected: AgentProcess, master: StandInMaster
) -> None:
    for changes in ({"Cmd": "no list"}, {"ExposedPorts": {"http/tcp": {}}}, {"Env": [7]}):
        seen = await master.ended(await master.start("/bin/true", **changes))
        assert seen.failure is not None
        assert seen.failure["FailureType"] == "agent failed to launch the container"
        assert next(iter(changes)) in seen.failure["ErrMsg"]


async def test_an_id_that_is_no_file_name_is_refused(
    connected: AgentProcess, master: StandInMaster
) -> None:
    seen = await master.ended(await master.start("/bin/true", container_id="../../etc/x"))
    assert seen.states == ["TERMINATED"]


UNREADABLE = [
    "{}",
    "null",
    "not json",
    "[]",
    '{"Unheard": {"of": 1}}',
    '{"SignalContainer": {"ContainerID": "x", "Signal": 9.0}}',
    '{"SignalContainer": {"ContainerID": "x", "Signal": "SIGKILL"}}',
    '{"StartContainer": {"Container": {"devices": "many"}}}',
    '{"MasterSetAgentOptions": {"MasterInfo": {"master_id": "again"}}}',
    "[" * 100_000,
]


async def test_messages_that_cannot_be_read_change_nothing(
    connected: AgentProcess, master: StandInMaster
) -> None:
    for text in UNREADABLE:
        await master.send_text(text)
    seen = await master.ended(await master.start("/bin/echo", "still here"))
    assert seen.output() == ["still here"]
    assert len(master.hellos) == 1
    assert connected.log.read_text().count("message of the master ignored") == len(UNREADABLE) - 1


async def test_keys_in_any_case_and_unknown_ones_are_read(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sleep", "1000")
    await master.reached(container_id, "RUNNING")
    order = {"signalcontainer": {"CONTAINERID": container_id, "signal": 9, "Why": [1]}, "New": {}}
    await master.send_text(json.dumps(order))
    await master.ended(container_id)


async def test_output_of_any_bytes_arrives(connected: AgentProcess, master: StandInMaster) -> None:
    script = (
        r"printf 'caf\303\251 ok\n\377\376 bad\nnul\000x\n\360\237\230\200 four\ncut\303';"
        r" sleep 0.3; printf '\251 joined\nnonl'"
    )
    seen = await master.ended(await master.start("/bin/sh", "-c", script))
    assert seen.output() == [
        "café ok",
        "\ufffd\ufffd bad",
        "nul\u2400x",
        "😀 four",
        "cuté joined",
        "nonl",
    ]


async def test_much_output_arrives_in_order_and_once(
    connected: AgentProcess, master: StandInMaster
) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    seen = await master.ended(await master.start("/bin/sh", "-c", script))
    assert seen.output() == [f"line {number}" for number in range(20000)]


async def test_output_with_the_stock_shipper_is_not_brought_twice(
    connected: AgentProcess, master: StandInMaster
) -> None:
    shipper = "/run/determined/ship-logs.sh"
    files = {shipper: b"#!/bin/sh\necho posted by the shipper\n"}
    seen = await master.ended(await master.start(shipper, "/bin/true", files=files))
    assert seen.failure is None
    assert seen.output() == []
    seen = await master.ended(await master.start("/bin/echo", shipper, files=files))
    assert seen.output() == [shipper]


async def test_a_lost_connection_loses_no_line_and_no_state(
    connected: AgentProcess, master: StandInMaster
) -> None:
    script = "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 4"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    for times, line in ((2, "line 3"), (3, "line 30")):
        await master.until(lambda line=line: line in seen.output())  # type: ignore[misc]
        await master.drop()
        await master.connected(times)
    await master.ended(container_id)
    assert master.dials[-1]["reconnect"] == "true"
    # The connection may break between a line and its receipt; then the line comes again, with the
    # same offset.
    assert seen.output_by_place() == [f"line {number}" for number in range(60)]
    assert seen.states == ["PULLING", "STARTING", "RUNNING", "TERMINATED"]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 4


async def test_what_happened_during_an_outage_is_told_after_it(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sh", "-c", "sleep 1; echo last words; exit 6")
    seen = await master.reached(container_id, "RUNNING")
    # What the master stored last is older than what it was sent.
    seen.states[:] = ["PULLING"]
    refusals = [web.json_response({"message": "busy"}, status=500) for _ in range(12)]
    master.refusals.extend(refusals)
    await master.drop()
    await master.until(lambda: not master.refusals)
    await master.ended(container_id)
    assert seen.states == ["PULLING", "STARTING", "RUNNING", "TERMINATED"]
    assert seen.output() == ["last words"]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 6


async def test_a_container_the_master_forgot_is_killed(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sleep", "1000")
    await master.reached(container_id, "RUNNING")
    del master.containers[container_id]
    await master.drop()
    await master.connected(2)
    await connected.forgot_all()
    assert container_id not in master.containers


async def test_an_agent_that_was_killed_finds_its_containers_again(
    connected: AgentProcess, master: StandInMaster
) -> None:
    script = "i=0; while [ $i -lt 80 ]; do echo line $i; i=$((i+1)); sleep 0.05; done; exit 4"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    await master.until(lambda: "line 10" in seen.output())
    await connected.end(signal.SIGKILL)
    await connected.start()
    await master.connected(2)
    assert master.dials[-1]["reconnect"] == "false"
    acknowledged = master.hellos[-1]["ContainersReattached"]
    assert [(one["Container"]["id"], one["Failure"]) for one in acknowledged] == [
        (container_id, None)
    ]
    await master.ended(container_id)
    assert seen.output_by_place() == [f"line {number}" for number in range(80)]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 4


async def test_an_exit_while_the_agent_was_down_keeps_its_code_and_its_last_words(
    connected: AgentProcess, master: StandInMaster, tmp_path: Path
) -> None:
    go_on = tmp_path / "shared/go"
    go_on.parent.mkdir()
    script = f"echo first; until rm {go_on} 2>/dev/null; do sleep 0.05; done; echo last; exit 9"
    mounts = {str(go_on.parent): str(go_on.parent)}
    container_id = await master.start("/bin/sh", "-c", script, mounts=mounts)
    seen = master.containers[container_id]
    await master.until(lambda: seen.output() == ["first"])
    assert await connected.end() == 0
    go_on.touch()
    async with asyncio.timeout(60):
        while go_on.exists():  # noqa: ASYNC110 (the container removes it)
            await asyncio.sleep(0.02)
    await connected.start()
    await master.ended(container_id)
    assert seen.output() == ["first", "last"]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 9


async def test_an_agent_that_is_stopped_repeats_no_line(
    connected: AgentProcess, master: StandInMaster
) -> None:
    script = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); sleep 0.03; done"
    container_id = await master.start("/bin/sh", "-c", script)
    seen = master.containers[container_id]
    for line in ("line 10", "line 50"):
        await master.until(lambda line=line: line in seen.output())  # type: ignore[misc]
        assert await connected.end() == 0
        await connected.start()
    await master.ended(container_id)
    assert seen.output() == [f"line {number}" for number in range(100)]
    assert seen.failure is None


async def test_a_container_of_another_cluster_is_left_alone(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sh", "-c", "sleep 3; exit 8")
    seen = await master.reached(container_id, "RUNNING")
    await connected.end()
    ours, master.cluster_id = master.cluster_id, "99999999-2222-3333-4444-555555555555"
    del master.containers[container_id]
    await connected.start()
    await master.connected(2)
    await master.ended(await master.start("/bin/true"))
    await connected.end()
    assert [record.stem for record in connected.records()] == [container_id]
    master.cluster_id = ours
    master.containers[container_id] = seen
    await connected.start()
    await master.ended(container_id)
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 8


async def test_a_container_is_taken_up_again_when_its_cluster_is_back(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sh", "-c", "while sleep 0.1; do echo tick; done")
    seen = await master.reached(container_id, "RUNNING")
    await master.until(lambda: len(seen.output()) > 2)
    ours, master.cluster_id = master.cluster_id, "99999999-2222-3333-4444-555555555555"
    del master.containers[container_id]
    await master.drop()
    await master.connected(2)
    await master.ended(await master.start("/bin/true"))
    await connected.forgot_all(container_id)
    master.cluster_id = ours
    master.containers[container_id] = seen
    number = len(seen.output())
    await master.drop()
    await master.connected(3)
    await master.until(lambda: len(seen.output_by_place()) > number + 12)  # what it wrote meanwhile
    assert not seen.has_ended
    await master.signal(container_id)
    await master.ended(container_id)
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 137


async def test_containers_with_the_same_device_never_overlap(
    connected: AgentProcess, master: StandInMaster
) -> None:
    first = await master.start("/bin/sh", "-c", "sleep 1; date +%s%N")
    await master.reached(first, "RUNNING")
    second = await master.start("/bin/date", "+%s%N")
    ended, began = [
        int((await master.ended(container_id)).output()[0]) for container_id in (first, second)
    ]
    assert ended < began


async def test_must_restart_makes_the_agent_register_anew(
    connected: AgentProcess, master: StandInMaster
) -> None:
    container_id = await master.start("/bin/sleep", "1000")
    await master.reached(container_id, "RUNNING")
    master.refusals.append(web.json_response({"message": MUST_RESTART}, status=500))
    master.forgets = True
    await master.drop()
    await master.connected(2)
    assert [dial["reconnect"] for dial in master.dials] == ["false", "true", "false"]
    await connected.forgot_all()


async def test_an_agent_tries_until_there_is_a_master(
    agent: AgentProcess, master: StandInMaster
) -> None:
    master.refusals.extend(web.Response(status=502, text="bad gateway") for _ in range(4))
    await agent.start()
    await master.connected()
    assert {dial["reconnect"] for dial in master.dials} == {"false"}


async def test_a_second_agent_of_one_id_is_told_so(
    connected: AgentProcess, master: StandInMaster
) -> None:
    other = AgentProcess(master, connected.log.parent)
    other.log = connected.log.with_name("other.log")
    other.state_dir = connected.state_dir.with_name("other")
    await other.start()
    try:
        await master.until(lambda: len(master.dials) >= 3)
    finally:
        await other.end()
    text = other.log.read_text()
    assert text.count("another agent with this id is connected") == 1
    assert len(master.hellos) == 1


async def test_a_limited_number_of_attempts_ends_the_agent(
    agent: AgentProcess, master: StandInMaster
) -> None:
    hook = agent.log.with_name("hook")
    agent.settings |= {
        "agent_reconnect_attempts": "3",
        "hooks_on_connection_lost": f"touch '{hook}'",
    }
    master.refusals.extend(web.Response(status=503) for _ in range(10))
    await agent.start()
    assert await agent.wait() == 1
    assert len(master.dials) == 3
    assert hook.exists()


async def test_a_launch_that_the_agents_end_cuts_off_is_told(
    connected: AgentProcess, master: StandInMaster
) -> None:
    holder = await master.start("/bin/sleep", "1000")
    await master.reached(holder, "RUNNING")
    waiting = await master.start("/bin/true")
    await master.ended(await master.start("/bin/true", slots=0))  # the order before it was read
    assert await connected.end() == 0
    seen = await master.ended(waiting)
    assert seen.failure is not None
    assert seen.failure["FailureType"] == "agent failed to launch the container"
    assert master.containers[holder].states[-1] == "RUNNING"
