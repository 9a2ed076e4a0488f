"""What keeps the agent from starting, and what must not."""

from __future__ import annotations

import asyncio
import json

from tests.agent.slots.fake_driver import FakeDriver, compile_fake_nvml
from tests.agent.stand_in import StandInMaster
from tests.lab.docker import Docker
from tests.lab.systemd import Systemd
from tests.systemd.conftest import FILES, UNIT, AgentService


async def test_wrong_settings_are_told_once_and_not_tried_again(service: AgentService) -> None:
    await service.configure(
        "master_hots: x\nmaster_port: 70000\nlog: {colour: 1}\nlabel: gpu\n",
        variables="DET_SLOT_TYPE=tpu\n",
    )
    await service.ctl("start", UNIT, check=False)
    assert await service.show("ActiveState", "ExecMainStatus", "NRestarts") == ["failed", "78", "0"]
    lines = [json.loads(line) for line in (await service.journal("--output=json")).splitlines()]
    errors = [line["MESSAGE"] for line in lines if line["PRIORITY"] == "3"]
    for text in [
        "/etc/determined/agent.yaml: master_hots: unknown key",
        "/etc/determined/agent.yaml: master_port: ",
        "/etc/determined/agent.yaml: log.colour: unknown key",
        "DET_SLOT_TYPE: ",
    ]:
        assert any(text in message for message in errors), (text, errors)


async def test_what_may_heal_is_tried_until_it_has(
    service: AgentService, master: StandInMaster
) -> None:
    await service.configure(variables="DET_CONFIG_FILE=/run/late.yaml\n")
    await service.ctl("start", UNIT, check=False)
    await service.until("NRestarts", "6", limit_s=60)  # the usual limit is 5 in 10 seconds
    log = await asyncio.to_thread(service.machine.journal, UNIT, "--lines=20")
    assert "/run/late.yaml: there is no such file" in log
    await service.run("cp", "/etc/determined/agent.yaml", "/run/late.yaml")
    await master.connected()


async def test_a_second_agent_says_which_is_the_first(
    service: AgentService, master: StandInMaster
) -> None:
    await service.ctl("start", UNIT)
    await master.connected()
    done = await service.run(
        *("sh", "-c", "/opt/shipway/bin/shipway-agent run --artificial-slots=1 2>&1; echo $?")
    )
    assert f"another shipway-agent (process {await service.main_pid()})" in done
    assert done.endswith("\n1\n")


async def test_docker_runs_containers_for_the_hardened_agent(
    service: AgentService, master: StandInMaster, docker: Docker
) -> None:
    await service.configure(
        {**service.settings, "container_runtime": "docker", "docker": {"host": docker.url}}
    )
    await service.ctl("start", UNIT)
    await master.connected()
    task = await master.start("sh", "-c", "echo here; exit 3", image=docker.image)
    seen = await master.ended(task)
    assert seen.output() == ["here"]
    assert seen.failure is not None
    assert seen.failure["ExitCode"] == 3


async def test_the_driver_answers_the_hardened_agent(
    service: AgentService, master: StandInMaster, docker: Docker
) -> None:
    folder = docker.folder / "nvml"
    folder.mkdir(exist_ok=True)
    driver = FakeDriver(compile_fake_nvml(folder), folder)
    driver.says(N=3)
    settings = {**service.settings, "slot_type": "cuda", "artificial_slots": 0}
    variables = "".join(f"{name}={value}\n" for name, value in driver.environ.items())
    await service.configure(settings, variables=variables)
    await service.ctl("start", UNIT)
    await master.connected()
    assert [device["type"] for device in master.hellos[-1]["Devices"]] == ["cuda"] * 3


async def test_it_runs_without_the_rights_of_root(
    service: AgentService, master: StandInMaster
) -> None:
    await service.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/shipway-agent.conf")
    await service.configure(
        {**service.settings, "sandbox": {"mode": "process"}},
        unit=(FILES / "unprivileged.conf").read_text(),
    )
    await service.run("chgrp", "shipway-agent", "/etc/determined/agent.yaml")
    await service.ctl("start", UNIT)
    await master.connected()
    task = await master.start("sh", "-c", "id -un")
    await master.ended(task)
    assert master.containers[task].output() == ["shipway-agent"]
    owner = await service.run("stat", "-c", "%U %a", "/var/lib/shipway-agent")
    assert owner == "shipway-agent 711\n"


def test_systemd_has_nothing_to_say_about_the_files(machine: Systemd) -> None:
    done = machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
    assert done.stdout + done.stderr == ""
    machine.write("/etc/determined/agent.yaml", "", mode="666")
    done = machine.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/shipway-agent.conf")
    assert done.stdout + done.stderr == ""
    mode = machine.run("stat", "-c", "%a %U %G", "/etc/determined/agent.yaml").stdout
    assert mode == "640 root shipway-agent\n"
