"""Commands on an agent, from launch to end."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually, launch, read_log, wait_for_end, wait_for_state
from tests.master.experiments.faults import change
from tests.master.running import MasterUnderTest


async def test_a_command_runs_and_ends(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["echo hello"]})
        start = await agent.next_start()
        await wait_for_state(master, task_id, "QUEUED")
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        await agent.print(start, "hello")
        await agent.end(start)
        task = await wait_for_end(master, task_id)
    assert task["allocations"][0]["statusCode"] == 0
    name = (await master.call("GET", f"/commands/{task_id}")).json["command"]["description"]
    assert await read_log(master, task_id) == [
        f"Scheduling {name} (id: {task_id}.1)",
        f"{name} was assigned to an agent",
        f"Resources for {name} have started",
        "hello",
        "resources exited successfully with a zero exit code",
        f"{name} was terminated: allocation stopped early after all containers exited",
    ]


async def test_what_the_agent_is_ordered_to_start(master: MasterUnderTest) -> None:
    config = {
        "description": "mine",
        "entrypoint": ["echo", "a b", "$HOME"],
        "resources": {"slots": 2, "shm_size": "1g"},
        "environment": {
            "image": {"cuda": "gpu:1", "cpu": "cpu:1"},
            "environment_variables": ["A=b=c", 'Q={"k": "v\\"w"}', "EMPTY=", "NAME", "L=a\nb", "U=día"],
            "ports": {"web": 8080},
            "add_capabilities": ["SYS_PTRACE"],
        },
        "bind_mounts": [
            {"host_path": "/data", "container_path": "/mnt", "read_only": True},
            {"host_path": "/x", "container_path": "rel"},
        ],
    }  # fmt: skip
    content = base64.b64encode(b"print()").decode()
    files = [
        {"path": "src/a.py", "type": 48, "content": content, "mode": 0o644, "mtime": 7},
    ]
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, config, files=files)
        start = await agent.next_start()
    assert start["Container"]["state"] == "ASSIGNED"
    assert start["Container"]["devices"] == agent.devices[:2]
    assert start["Container"]["description"] == f"cmd-{task_id}"
    run = start["Spec"]["RunSpec"]
    container = run["ContainerConfig"]
    assert container["Cmd"] == ["echo", "a b", "$HOME"]
    assert container["Image"] == "gpu:1"
    assert container["User"] == "0:0"
    assert container["WorkingDir"] == "/run/determined/workdir"
    assert container["Entrypoint"] is None
    assert container["ExposedPorts"] == {"8080/tcp": {}}
    variables = dict(text.split("=", 1) for text in container["Env"])
    assert variables["A"] == "b=c"
    assert variables["Q"] == '{"k": "v\\"w"}'
    assert (variables["EMPTY"], variables["NAME"]) == ("", "")
    assert (variables["L"], variables["U"]) == ("a\nb", "día")
    assert variables["DET_TASK_ID"] == task_id
    assert variables["DET_ALLOCATION_ID"] == f"{task_id}.1"
    assert variables["DET_RESOURCES_TYPE"] == "docker-container"
    assert variables["DET_TASK_TYPE"] == "COMMAND"
    assert variables["DET_CONTAINER_ID"] == start["Container"]["id"]
    assert "SHIPWAY_ON_TERM" not in variables
    host = run["HostConfig"]
    assert host["ShmSize"] == 2**30
    assert host["NetworkMode"] == "bridge"
    assert host["PublishAllPorts"] is True
    assert host["CapAdd"] == ["SYS_PTRACE"]
    assert [(one["Source"], one["Target"], one.get("ReadOnly")) for one in host["Mounts"]] == [
        ("/data", "/mnt", True),
        ("/x", "/run/determined/workdir/rel", None),
    ]
    items = {item["path"]: item for part in run["Archives"] for item in part["Archive"]}
    assert items["/run/determined"]["mode"] == 0o700
    assert items["/run/determined/workdir/src"]["type"] == 53
    assert items["/run/determined/workdir/src/a.py"]["content"] == content
    assert items["/run/determined/etc/passwd"]["isRootItem"] is True
    answer = await master.call("GET", f"/tasks/{task_id}/context_directory")
    assert base64.b64decode(answer.json["b64Tgz"])[:2] == b"\x1f\x8b"


async def test_one_word_is_a_line_for_the_shell(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        await launch(master, {"entrypoint": ["echo a; echo b"], "resources": {"slots": 0}})
        start = await agent.next_start()
    config = start["Spec"]["RunSpec"]["ContainerConfig"]
    assert config["Cmd"] == ["/bin/sh", "-c", "echo a; echo b"]
    assert start["Container"]["devices"] is None


async def test_the_task_s_token_acts_as_its_owner_and_ends_with_it(
    master: MasterUnderTest,
) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["true"]})
        start = await agent.next_start()
        environment = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
        variables = dict(text.split("=", 1) for text in environment)
        headers = {"grpc-metadata-X-Allocation-Token": f"Bearer {variables['DET_SESSION_TOKEN']}"}
        me = await master.call("GET", "/me", token=None, headers=headers)
        assert me.json["user"]["username"] == "admin"
        await agent.run(start)
        await agent.end(start)
        await wait_for_end(master, task_id)
    assert (await master.call("GET", "/me", token=None, headers=headers)).status == 401


async def test_a_failed_command_says_how(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["exit 7"]})
        start = await agent.next_start()
        await agent.run(start)
        await agent.end(start, 7)
        await wait_for_end(master, task_id)
    command = (await master.call("GET", f"/commands/{task_id}")).json["command"]
    assert command["state"] == "STATE_TERMINATED"
    assert command["exitStatus"].endswith(
        "container failed with non-zero exit code: 7 (exit code 7)"
    )
    log = await read_log(master, task_id)
    assert any(line.startswith("crashed: resources failed with non-zero") for line in log)


async def test_a_command_waits_for_room_and_jobs_show_it(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        first = await launch(master, {"entrypoint": ["sleep 9"], "resources": {"slots": 3}})
        start = await agent.next_start()
        second = await launch(master, {"entrypoint": ["sleep 9"], "resources": {"slots": 2}})
        third = await launch(master, {"entrypoint": ["sleep 9"], "resources": {"slots": 4}})
        jobs = (await master.call("GET", "/job-queues-v2")).json["jobs"]
        shown = {
            job["full"]["entityId"]: (
                job["full"]["summary"]["state"],
                job["full"]["summary"]["jobsAhead"],
                job["full"]["allocatedSlots"],
            )
            for job in jobs
        }
        assert shown == {
            first: ("STATE_SCHEDULED", 0, 3),
            second: ("STATE_QUEUED", 0, 0),
            third: ("STATE_QUEUED", 1, 0),
        }
        assert [job["full"]["entityId"] for job in jobs] == [first, second, third]
        tasks = (await master.call("GET", "/tasks")).json["allocationIdToSummary"]
        assert list(tasks[f"{first}.1"]["resources"][0]["agentDevices"]) == ["agent-a"]
        assert tasks[f"{second}.1"]["resources"] == []
        await agent.run(start)
        await agent.end(start)
        after = await agent.next_start()
        assert after["Container"]["description"] == f"cmd-{second}"


async def test_an_error_of_the_master_about_one_start_costs_the_others_nothing(
    master: MasterUnderTest,
) -> None:
    """Both are given their slots at once."""
    config = {"entrypoint": ["x"], "resources": {"slots": 1}}
    first, second = await launch(master, config), await launch(master, config)
    await asyncio.to_thread(
        change,
        master.data,
        "CREATE TRIGGER refusal BEFORE UPDATE ON allocations "
        f"WHEN NEW.task_id = '{first}' BEGIN SELECT RAISE(ABORT, 'a defect'); END",
    )
    async with StandInAgent(master.url).connected() as agent:
        start = await agent.next_start()
        assert start["Container"]["description"] == f"cmd-{second}"


async def test_killing_a_waiting_command_ends_it_at_once(master: MasterUnderTest) -> None:
    task_id = await launch(master, {"entrypoint": ["true"]})
    answer = await master.call("POST", f"/commands/{task_id}/kill")
    assert answer.json["command"]["state"] == "STATE_TERMINATED"
    again = await master.call("POST", f"/commands/{task_id}/kill")
    assert again.status == 200, "killing what has ended is no error"


async def test_killing_a_running_command(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, {"entrypoint": ["sleep 1000"]})
        start = await agent.next_start()
        await agent.run(start)
        await wait_for_state(master, task_id, "RUNNING")
        assert (await master.call("POST", f"/commands/{task_id}/kill")).status == 200
        assert await agent.next_kill() == start["Container"]["id"]
        await agent.end(start, 137)
        task = await wait_for_end(master, task_id)
    assert task["allocations"][0]["exitReason"] == "allocation killed after user requested kill"
    log = await read_log(master, task_id)
    assert any("forcibly killing allocation's remaining resources" in line for line in log)


async def test_only_the_owner_or_an_administrator_may_kill(master: MasterUnderTest) -> None:
    task_id = await launch(master, {"entrypoint": ["true"]})
    refused = await master.call("POST", f"/commands/{task_id}/kill", token="user")
    assert refused.status == 403


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ["entrypoint: there is nothing to run"]),
        ({"entrypoint": []}, ["entrypoint"]),
        ({"entrypoint": [""]}, ["entrypoint"]),
        ({"entrypoint": {"a": 1}}, ["entrypoint"]),
        ({"entrypoint": ["x"], "resources": {"slots": -1}}, ["resources.slots", "greater"]),
        ({"entrypoint": ["x"], "resources": {"slots": "two"}}, ["resources.slots", "integer"]),
        (
            {"entrypoint": ["x"], "resources": {"resource_pool": "nope"}},
            ["resource pool not found: nope", "agents have default"],
        ),
        ({"entrypoint": ["x"], "resurces": {}}, ["resurces", "did you mean resources?"]),
        (
            {"entrypoint": ["x"], "environment": {"environment_variables": ["=x"]}},
            ["environment_variables", "NAME=value"],
        ),
        (
            {"entrypoint": ["x"], "bind_mounts": [{"host_path": "rel", "container_path": "/x"}]},
            ["bind_mounts.0.host_path", "not absolute"],
        ),
        (
            {"entrypoint": ["x"], "resources": {"slots": -2, "priority": 0}, "bogus": 1},
            ["resources.slots", "resources.priority", "bogus"],
        ),
    ],
)
async def test_a_bad_configuration_is_refused_with_every_mistake(
    master: MasterUnderTest, config: dict[str, Any], words: list[str]
) -> None:
    answer = await master.call("POST", "/commands", {"config": config})
    assert (answer.status, answer.error["reason"]) == (400, "InvalidArgument")
    for word in words:
        assert word in answer.error["error"]
    assert (await master.call("GET", "/commands")).json["commands"] == []


async def test_more_slots_than_any_agent_has_are_refused_with_the_numbers(
    master: MasterUnderTest,
) -> None:
    async with StandInAgent(master.url, slots=4).connected():

        async def known() -> bool:
            return bool((await master.call("GET", "/agents")).json["agents"][0]["slots"])

        await eventually(known)
        config = {"entrypoint": ["x"], "resources": {"slots": 5}}
        answer = await master.call("POST", "/commands", {"config": config})
    assert answer.status == 400
    assert "5 slots" in answer.error["error"]
    assert "has 4" in answer.error["error"]


async def test_without_agents_a_command_waits_and_warns(master: MasterUnderTest) -> None:
    answer = await master.call("POST", "/commands", {"config": {"entrypoint": ["x"]}})
    assert answer.json["warnings"] == ["LAUNCH_WARNING_CURRENT_SLOTS_EXCEEDED"]
    assert answer.json["config"]["resources"]["resource_pool"] == "default"
    assert answer.json["config"]["resources"]["slots"] == 1


@pytest.mark.parametrize(
    ("path", "word"),
    [("../up", "outside"), ("/etc/passwd", "outside"), ("a/../../b", "outside"), ("", "outside")],
)
async def test_files_stay_in_their_folder(master: MasterUnderTest, path: str, word: str) -> None:
    files = [{"path": path, "type": 48, "content": "", "mode": 420}]
    body = {"config": {"entrypoint": ["x"]}, "files": files}
    answer = await master.call("POST", "/commands", body)
    assert answer.status == 400
    assert word in answer.error["error"]


async def test_unknown_things_are_not_found(master: MasterUnderTest) -> None:
    for verb, path in (
        ("GET", "/commands/nope"),
        ("POST", "/commands/nope/kill"),
        ("GET", "/tasks/nope"),
        ("GET", "/tasks/nope/context_directory"),
        ("GET", "/agents/nope"),
        ("POST", "/agents/nope/disable"),
        ("GET", "/allocations/nope.1"),
        ("POST", "/allocations/nope.1/ready"),
        ("POST", "/allocations/nope.1/all_gather"),
    ):
        answer = await master.call(verb, path)
        assert answer.status == 404, (path, answer.body)
        assert "'nope" in answer.error["error"]


async def test_an_allocation_id_without_a_dot_is_refused(master: MasterUnderTest) -> None:
    for path in ("ready", "signals/pending_preemption", "all_gather", "notify_container_running"):
        answer = await master.call("POST", f"/allocations/nodot/{path}")
        assert answer.status == 400, answer.body
    assert (await master.call("GET", "/allocations/nodot/signals/preemption")).status == 400
