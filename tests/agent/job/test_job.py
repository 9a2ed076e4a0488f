"""A job from its task file to its exit status, in the real sandbox."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.job.errors import TaskFileError
from shipway_agent.job.notices import CANCEL_MARK
from shipway_agent.job.taskfile import parse_task_file
from tests.agent.job.conftest import (
    ALLOCATION,
    TASK,
    StartJob,
    eventually,
    job_process,
    make_task,
    write_task,
)
from tests.agent.job.stand_in import StandInRelay

PREEMPTION = f"/api/v1/allocations/{ALLOCATION}/signals/pending_preemption"
RUNNING = f"/api/v1/allocations/{ALLOCATION}/notify_container_running"
LOGS = "/api/v1/task/logs"

WAIT_FOR_TERM = "trap 'echo got TERM; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
IGNORE = """
import os, sys, time
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
print("done", flush=True)
"""


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)],
    ids=["success", "3", "255", "by KILL", "by TERM"],
)
async def test_the_exit_status_is_the_tasks(start_job: StartJob, script: str, status: int) -> None:
    job = await start_job("/bin/sh", "-c", script)
    assert (await job.end()).status == status


async def test_output_comes_out_byte_for_byte_and_as_log_lines(
    relay: StandInRelay, start_job: StartJob
) -> None:
    parts = [b"caf\303\251 ok\n", b"\377\376 bad\n", b"nul\0x\n", b"50%\r100%\n", b"nonl"]
    script = "printf '%b' '" + "".join(f"\\0{byte:03o}" for byte in b"".join(parts)) + "'"
    ended = await (await start_job("/bin/sh", "-c", script)).end()
    assert ended.stdout == b"".join(parts)
    assert ended.stderr == b""
    assert relay.lines == ["café ok\n", "�� bad\n", "nul␀x\n", "50%\n", "100%\n", "nonl\n"]


async def test_a_log_line_says_where_it_is_from(relay: StandInRelay, start_job: StartJob) -> None:
    await (await start_job("/bin/sh", "-c", "echo out; echo err >&2")).end()
    by_stream = {record["stdtype"]: record for record in relay.records}
    assert by_stream["stderr"]["log"] == "err\n"
    record = by_stream["stdout"]
    assert record.pop("timestamp").endswith("+00:00")
    assert record == {
        "taskId": TASK,
        "allocationId": ALLOCATION,
        "agentId": "n7",
        "containerId": "[cont=1]",
        "rankId": 1,
        "stdtype": "stdout",
        "source": "task",
        "log": "out\n",
    }


async def test_much_output_arrives_whole_and_in_order(
    relay: StandInRelay, start_job: StartJob
) -> None:
    count = 20_000
    job = await start_job("/bin/sh", "-c", f"seq 1 {count}")
    ended = await job.end()
    expected = [f"{number}\n" for number in range(1, count + 1)]
    assert ended.stdout.decode() == "".join(expected)
    assert relay.lines == expected


async def test_lines_come_while_the_task_runs(relay: StandInRelay, start_job: StartJob) -> None:
    job = await start_job("/bin/sh", "-c", "echo early; sleep 60")
    await eventually(lambda: relay.lines == ["early\n"])
    job.send(signal.SIGTERM)
    await job.end()


async def test_no_log_is_shipped_where_the_task_ships_its_own(
    relay: StandInRelay, start_job: StartJob
) -> None:
    ended = await (await start_job("/bin/echo", "x", ship_logs=False)).end()
    assert ended.stdout == b"x\n"
    assert relay.records == []
    assert len(relay.bodies("notify_container_running")) == 1


async def test_running_is_reported_once_with_the_rank(
    relay: StandInRelay, start_job: StartJob
) -> None:
    relay.refuse[RUNNING] = [503, 500]
    await (await start_job("/bin/sh", "-c", "sleep 0.2")).end()
    [body] = relay.bodies("notify_container_running")
    assert len(body.pop("requestUuid")) == 36
    assert body == {
        "allocationId": ALLOCATION,
        "numPeers": 2,
        "rank": 1,
        "nodeName": "n7",
        "data": {},
    }


async def test_running_is_not_reported_before_the_task_runs(
    relay: StandInRelay, start_job: StartJob
) -> None:
    ended = await (await start_job("/no/such/program")).end()
    assert ended.status in {125, 127}
    assert relay.bodies("notify_container_running") == []


async def test_a_program_that_cannot_start_is_told_in_the_runtimes_words(
    relay: StandInRelay, start_job: StartJob
) -> None:
    ended = await (await start_job("/no/such/program")).end()
    assert ended.status == 127
    assert b"/no/such/program" in ended.stderr
    assert b"No such file" in ended.stderr
    [line] = relay.lines
    assert "/no/such/program" in line


async def test_a_mount_that_cannot_be_had_is_no_exit_of_the_task(
    relay: StandInRelay, start_job: StartJob
) -> None:
    mount = {"source": "/no/such/folder", "target": "/no/such/folder", "read_only": True}
    ended = await (await start_job("/bin/true", mounts=[mount])).end()
    assert ended.status == 125
    assert b"/no/such/folder" in ended.stderr


async def test_an_unknown_runtime_setting_is_told(start_job: StartJob) -> None:
    ended = await (await start_job("/bin/true", runtime="enroot", image="x")).end()
    assert ended.status == 125
    assert b"enroot" in ended.stderr


async def test_forward_passes_term_on_and_tells_the_master_once(
    relay: StandInRelay, start_job: StartJob
) -> None:
    job = await start_job("/bin/sh", "-c", WAIT_FOR_TERM)
    await eventually(lambda: "ready\n" in relay.lines)
    for number in (signal.SIGTERM, signal.SIGCONT, signal.SIGTERM):
        job.send(number)
    ended = await job.end()
    assert ended.status == 7
    assert relay.bodies("pending_preemption") == [{}]
    assert relay.lines == ["ready\n", "got TERM\n"]


async def test_a_users_signal_counts_as_term(relay: StandInRelay, start_job: StartJob) -> None:
    job = await start_job("/bin/sh", "-c", WAIT_FOR_TERM)
    await eventually(lambda: "ready\n" in relay.lines)
    job.send(signal.SIGUSR1)
    assert (await job.end()).status == 7
    assert relay.bodies("pending_preemption") == [{}]


async def test_report_tells_the_master_and_lets_the_work_go_on(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    job = await start_job(
        *(sys.executable, "-c", IGNORE, str(tmp_path / "go")),
        environment={"SHIPWAY_ON_TERM": "report"},
        mounts=[{"source": str(tmp_path), "target": str(tmp_path), "read_only": False}],
    )
    await eventually(lambda: "ready\n" in relay.lines)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
        job.send(number)
    await eventually(lambda: relay.bodies("pending_preemption"))
    (tmp_path / "go").touch()
    ended = await job.end()
    assert ended.status == 0
    assert relay.bodies("pending_preemption") == [{}]
    assert relay.lines == ["ready\n", "done\n"]


async def test_a_cancel_ends_even_work_that_would_go_on_and_is_no_preemption(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    job = await start_job("/bin/sh", "-c", WAIT_FOR_TERM, environment={"SHIPWAY_ON_TERM": "report"})
    await eventually(lambda: "ready\n" in relay.lines)
    (tmp_path / CANCEL_MARK).mkdir()
    job.send(signal.SIGTERM)
    assert (await job.end()).status == 7
    assert relay.bodies("pending_preemption") == []
    assert relay.lines == ["ready\n", "got TERM\n"]


@pytest.mark.parametrize(
    ("script", "is_told", "is_failure"),
    [("exit 3", False, True), ("exit 0", False, False), (WAIT_FOR_TERM, True, False)],
    ids=["a failure", "success", "a failure after a notice"],
)
async def test_a_rank_that_fails_by_itself_leaves_a_mark_for_the_others(
    relay: StandInRelay,
    start_job: StartJob,
    tmp_path: Path,
    *,
    script: str,
    is_told: bool,
    is_failure: bool,
) -> None:
    job = await start_job("/bin/sh", "-c", script)
    if is_told:
        await eventually(lambda: "ready\n" in relay.lines)
        job.send(signal.SIGTERM)
    await job.end()
    assert (tmp_path / CANCEL_MARK).exists() == is_failure


async def test_a_cancel_within_a_grace_period_ends_the_work(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    job = await start_job("/bin/sh", "-c", WAIT_FOR_TERM, environment={"SHIPWAY_ON_TERM": "report"})
    await eventually(lambda: "ready\n" in relay.lines)
    job.send(signal.SIGTERM)
    await eventually(lambda: relay.bodies("pending_preemption"))
    (tmp_path / CANCEL_MARK).mkdir()
    job.send(signal.SIGTERM)
    assert (await job.end()).status == 7
    assert relay.bodies("pending_preemption") == [{}]


async def test_another_signal_reaches_the_task_and_not_the_master(
    relay: StandInRelay, start_job: StartJob
) -> None:
    script = "trap 'exit 9' USR2; echo ready; while :; do sleep 0.05; done"
    job = await start_job("/bin/sh", "-c", script)
    await eventually(lambda: "ready\n" in relay.lines)
    job.send(signal.SIGUSR2)
    assert (await job.end()).status == 9
    assert relay.bodies("pending_preemption") == []


async def test_a_preemption_is_told_although_the_master_was_away(
    relay: StandInRelay, start_job: StartJob
) -> None:
    job = await start_job("/bin/sh", "-c", "trap 'sleep 1; exit 7' TERM; echo a; sleep 60 & wait")
    await eventually(lambda: relay.lines)
    await relay.stop()
    job.send(signal.SIGTERM)
    await asyncio.sleep(0.5)
    await relay.start()
    assert (await job.end()).status == 7
    assert relay.bodies("pending_preemption") == [{}]


async def test_a_master_that_stays_away_does_not_keep_the_job(
    relay: StandInRelay, start_job: StartJob
) -> None:
    await relay.stop()
    job = await start_job("/bin/sh", "-c", "echo lost", environment={"DET_LOG_WAIT_TIME": "0.2"})
    ended = await job.end()
    assert ended.status == 0
    assert ended.stdout == b"lost\n"
    assert b"1 lines of the task's log were not delivered" in ended.stderr


async def test_a_refused_line_does_not_take_the_others_along(
    relay: StandInRelay, start_job: StartJob
) -> None:
    relay.is_refused_line = lambda record: "bad" in record["log"]
    ended = await (await start_job("/bin/sh", "-c", "echo one; echo bad; echo two")).end()
    note = "[shipway: a line of 3 bytes is missing here: the master refused it]\n"
    assert relay.lines == ["one\n", note, "two\n"]
    assert b"refused a line" in ended.stderr


async def test_a_dead_token_is_said_once_and_does_not_harm_the_task(
    relay: StandInRelay, start_job: StartJob
) -> None:
    script = "for i in 1 2 3; do echo $i; sleep 0.6; done; exit 4"
    job = await start_job("/bin/sh", "-c", script, environment={"DET_SESSION_TOKEN": "dead"})
    ended = await job.end()
    assert ended.status == 4
    assert ended.stderr.count(b"takes no more of the task's log") == 1


async def test_a_killed_job_takes_its_task_along(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    beat = tmp_path / "beat"
    mounts = [{"source": str(tmp_path), "target": str(tmp_path), "read_only": False}]
    script = f"while :; do date +%s%N >{beat}; echo x; sleep 0.05; done"
    job = await start_job("/bin/sh", "-c", script, mounts=mounts)
    await eventually(lambda: relay.lines)
    job.send(signal.SIGKILL)
    await job.end()
    await _stops_changing(beat)


async def _stops_changing(path: Path) -> None:
    async with asyncio.timeout(60):
        while True:
            before = await asyncio.to_thread(path.read_bytes)
            await asyncio.sleep(0.5)
            if await asyncio.to_thread(path.read_bytes) == before:
                return


async def test_what_a_killed_job_left_is_removed_by_the_next(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    job = await start_job("/bin/sh", "-c", "echo x; sleep 60")
    await eventually(lambda: relay.lines)
    assert len(_folders(tmp_path)) == 1
    job.send(signal.SIGKILL)
    await job.end()
    assert len(_folders(tmp_path)) == 1
    await (await start_job("/bin/true")).end()
    assert _folders(tmp_path) == []


def _folders(parent: Path) -> list[Path]:
    return list(parent.glob("shipway-job-*"))


async def test_each_rank_has_a_copy_of_the_files_of_its_own(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    archives = tmp_path / "archives"
    run = archives / "run/determined"
    run.joinpath("workdir").mkdir(parents=True)
    run.joinpath("workdir/data").write_text("shared")
    run.joinpath("workdir/start.sh").write_text("#!/bin/sh\ncat data; echo mine >data; cat data\n")
    run.joinpath("workdir/start.sh").chmod(0o700)
    job = await start_job(
        "/run/determined/workdir/start.sh",
        archives_dir=str(archives),
        working_dir="/run/determined/workdir",
    )
    ended = await job.end()
    assert (ended.status, ended.stdout) == (0, b"sharedmine\n"), ended.stderr
    assert run.joinpath("workdir/data").read_text() == "shared"


async def test_a_requeued_job_does_not_run_with_stale_tokens(
    relay: StandInRelay, start_job: StartJob
) -> None:
    ended = await (await start_job("/bin/echo", "x", slurm={"SLURM_RESTART_COUNT": "1"})).end()
    assert ended.status == 125
    assert b"requeued" in ended.stderr
    assert ended.stdout == b""
    assert relay.posts == []


async def test_a_wrong_choice_for_term_is_refused(start_job: StartJob) -> None:
    job = await start_job("/bin/true", environment={"SHIPWAY_ON_TERM": "maybe"})
    ended = await job.end()
    assert ended.status == 125
    assert b"SHIPWAY_ON_TERM is 'maybe'" in ended.stderr


async def test_the_environment_arrives_byte_for_byte(start_job: StartJob) -> None:
    values: dict[str, Any] = {
        "A": 'b=c "q"',
        "NL": "l1\nl2",
        "EMPTY": "",
        "SP": "  two  blanks  ",
        "DQ": '{"k": "v\\"w"}',
        "DOLLAR": "$$ ${HOME} `id` $(id)",
        "BS": "\\n\\t\\\\",
        "UNI": "día😀",
        "BAD": "\udcff\udcfe",
        "LONG": "x" * 70000,
        "NAME.WITH.DOT": "1",
    }
    code = "import os,sys; sys.stdout.buffer.write(b'\\0'.join(b'%s=%s' % p for p in os.environb.items()))"
    ended = await (await start_job(sys.executable, "-c", code, environment=values)).end()
    found = dict(entry.split(b"=", 1) for entry in ended.stdout.split(b"\0"))
    for name, value in values.items():
        assert found[name.encode()] == value.encode("utf-8", "surrogateescape")


async def test_slurms_variables_and_the_ranks_own_are_there(start_job: StartJob) -> None:
    names = ["SLURM_PROCID", "SLURM_NPROCS", "DET_AGENT_ID", "DET_CONTAINER_ID", "DET_SLOT_IDS"]
    names += ["DET_UNIQUE_PORT_OFFSET", "CUDA_VISIBLE_DEVICES"]
    job = await start_job("/usr/bin/printenv", *names)
    assert (await job.end()).stdout.decode().split() == [
        *["1", "2", "n7", "[cont=1]", "[2,3]", "2", "2,3"]
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 2}, "version is 2"),
        ({"version": None}, "version is None"),
        ({"arguments": "x"}, "arguments: must be a list"),
        ({"arguments": [1]}, "arguments: [0] must be text"),
        ({"arguments": []}, "arguments: must name a program"),
        ({"runtime": "docker"}, "runtime: 'docker' is none of"),
        ({"runtime": "podman"}, "image: podman needs one"),
        ({"environment": {"A=B": "1"}}, "environment: 'A=B' is no name"),
        ({"environment": {"A": "\0"}}, "environment: A must not hold a zero byte"),
        ({"environment": {"DET_SESSION_TOKEN": ""}}, "DET_SESSION_TOKEN is missing"),
        ({"mounts": [{"source": "/a"}]}, "mounts: [0] must have the keys source, target"),
        ({"ports": [0]}, "ports: [0] 0 is no port"),
        ({"archives_dir": "relative"}, "archives_dir: 'relative' must be an absolute path"),
        ({"master_url": "login1:80"}, "master_url: must begin with http"),
        ({"ship_logs": "yes"}, "ship_logs: must be true or false"),
        ({"surprise": 1}, "surprise: is not known"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_task_file_is_refused_by_key(changes: dict[str, Any], text: str) -> None:
    content = json.dumps(make_task("http://relay", ["/bin/true"], **changes)).encode()
    with pytest.raises(TaskFileError) as refused:
        parse_task_file(content, name="task.json")
    assert text in str(refused.value)


async def test_all_mistakes_are_told_at_once(start_job: StartJob) -> None:
    ended = await (await start_job("/bin/true", ports=[0], name=7, runtime="x")).end()
    assert ended.status == 125
    assert b"Traceback" not in ended.stderr
    for key in (b"ports", b"name", b"runtime"):
        assert key + b": " in ended.stderr


async def test_a_task_file_that_others_may_read_is_refused(
    relay: StandInRelay, start_job: StartJob, tmp_path: Path
) -> None:
    file = write_task(tmp_path / "open.json", make_task(relay.url, ["/bin/true"]), mode=0o640)
    async with job_process(file, {}, tmp_path) as job:
        ended = await job.end()
    assert ended.status == 125
    assert b"chmod 600" in ended.stderr
