"""The agent's unit under a real systemd: start, stop, crashes, and the tasks that outlive them."""

from __future__ import annotations

import asyncio

from tests.agent.stand_in import StandInMaster
from tests.systemd.conftest import UNIT, AgentService


async def _start_task(service: AgentService, master: StandInMaster, script: str) -> str:
    await service.ctl("start", UNIT)
    await master.connected()
    task = await master.start("sh", "-c", script)
    await master.reached(task, "RUNNING")
    return task


async def test_it_counts_as_started_when_it_serves_and_says_what_it_does(
    service: AgentService, master: StandInMaster
) -> None:
    await service.ctl("start", UNIT)
    await master.connected()
    await service.until("StatusText", f"connected to master 127.0.0.1:{master.port}, 2 slots, 0")
    await master.start("sleep", "1000", slots=2)
    await service.until("StatusText", "2 slots, 1 containers")


async def test_it_is_started_although_no_master_answers(service: AgentService) -> None:
    await service.configure({**service.settings, "master_port": 1})
    await service.ctl("start", UNIT)
    assert await service.show("ActiveState") == ["active"]
    await service.until("StatusText", "not connected to master 127.0.0.1:1")


async def test_a_task_is_a_unit_of_its_own(service: AgentService, master: StandInMaster) -> None:
    task = await _start_task(service, master, "cat /proc/self/status; exec sleep 1000")
    unit = f"shipway-task-{task}.service"
    slice_name, group = await service.show("Slice", "ControlGroup", unit=unit)
    assert slice_name == "shipway-tasks.slice"
    members = await service.run("systemd-cgls", "--no-pager", "--unit", unit)
    assert "sleep 1000" in members
    own = await service.run("systemd-cgls", "--no-pager", "--unit", UNIT)
    assert group not in own
    assert "sleep 1000" not in own
    agent_filter = (
        await service.run("cat", f"/proc/{await service.main_pid()}/status")
    ).splitlines()
    assert "Seccomp:\t2" in agent_filter
    # bubblewrap filters nothing; so what is there would be the agent's
    await master.until(lambda: "Seccomp:\t0" in master.containers[task].output())


async def test_a_task_whose_program_is_not_there_says_so(
    service: AgentService, master: StandInMaster
) -> None:
    await service.ctl("start", UNIT)
    await master.connected()
    task = await master.start("/no/such/program")
    seen = await master.ended(task)
    assert seen.failure is not None
    assert "/no/such/program" in seen.failure["ErrMsg"]


async def test_tasks_go_on_through_stop_and_start(
    service: AgentService, master: StandInMaster
) -> None:
    task = await _start_task(
        service, master, "trap 'echo two; exit 7' TERM; echo one; while :; do sleep 0.1; done"
    )
    await service.ctl("stop", UNIT)
    assert await service.show("ActiveState", "Result") == ["inactive", "success"]
    await service.run("pkill", "-TERM", "-f", "^sh -c trap")
    await service.ctl("start", UNIT)
    seen = await master.ended(task)
    assert seen.output_by_place() == ["one", "two"]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 7


async def test_a_restart_keeps_the_connection_short_and_the_task(
    service: AgentService, master: StandInMaster
) -> None:
    task = await _start_task(service, master, "exec sleep 1000")
    await service.ctl("restart", UNIT)
    await master.connected(2)
    assert [one["Container"]["id"] for one in master.hellos[-1]["ContainersReattached"]] == [task]
    await master.signal(task)
    await master.ended(task)
    async with asyncio.timeout(60):  # systemd keeps nothing of it either
        while await service.ctl("list-units", "--all", "--no-legend", "shipway-task-*"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_a_killed_agent_comes_back_and_finds_its_task(
    service: AgentService, master: StandInMaster
) -> None:
    task = await _start_task(service, master, "exec sleep 1000")
    former = await service.main_pid()
    await service.ctl("kill", "--kill-whom=main", "--signal=KILL", UNIT)
    await master.connected(2)
    assert await service.show("NRestarts") == ["1"]
    assert await service.main_pid() != former
    await service.ctl("kill", "--kill-whom=all", "--signal=KILL", UNIT)
    await master.connected(3)
    assert await service.show("ActiveState", unit=f"shipway-task-{task}.service") == ["active"]
    assert not master.containers[task].has_ended
    await master.signal(task)
    assert (await master.ended(task)).failure is not None


async def test_an_agent_that_hangs_is_ended_by_the_watchdog(
    service: AgentService, master: StandInMaster
) -> None:
    await service.configure(unit="WatchdogSec=2")
    task = await _start_task(service, master, "exec sleep 1000")
    await service.ctl("kill", "--kill-whom=main", "--signal=STOP", UNIT)
    await master.connected(2)
    log = await asyncio.to_thread(service.machine.journal, UNIT, "--lines=60")
    assert "Watchdog timeout" in log
    assert "Current thread" in log  # where it hung
    assert not master.containers[task].has_ended


async def test_an_agent_gives_signs_of_life_to_another_systemd_in_the_place_of_the_first_too(
    service: AgentService, master: StandInMaster
) -> None:
    await service.configure(unit="WatchdogSec=6")
    await service.ctl("start", UNIT)
    await master.connected()
    pid = await service.main_pid()
    await service.ctl("daemon-reexec")
    (told,) = await service.show("WatchdogTimestampMonotonic")
    async with asyncio.timeout(60):
        while await service.show("WatchdogTimestampMonotonic") == [told]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert await service.main_pid() == pid
    assert len(master.hellos) == 1
