"""A machine with systemd on which the agent is installed as docs/agent.md says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.agent.stand_in import StandInMaster
from tests.lab import systemd as systemd_lab
from tests.lab.docker import Docker
from tests.lab.processes import LabError
from tests.lab.require import require
from tests.lab.systemd import Systemd

UNIT = "shipway-agent.service"
FILES = Path(__file__).parents[2] / "systemd"
SETTINGS = "/etc/determined/agent.yaml"
_STATE = "/var/lib/shipway-agent"
_DROP_IN = f"/run/systemd/system/{UNIT}.d"
_VARIABLES = "/etc/default/shipway-agent"
_CONFIGURE = f"""
mkdir -p {_DROP_IN}
printf %s "$1" >{SETTINGS}
chmod 640 {SETTINGS}
printf %s "$2" >{_DROP_IN}/test.conf
printf %s "$3" >{_VARIABLES}
systemctl daemon-reload
"""
_CLEAN = f"""
systemctl stop {UNIT} 'shipway-task-*.service'
systemctl reset-failed
rm -rf {_STATE} {SETTINGS} {_DROP_IN} {_VARIABLES}
"""


@pytest.fixture(scope="session")
def machine(docker: Docker) -> Iterator[Systemd]:
    require("systemd in a container", systemd_lab.missing())
    with Systemd(docker) as machine:
        install(machine, read_commands("agent.md", "## Install"))
        yield machine


def read_commands(page: str, heading: str) -> list[str]:
    """Return what a page of docs/ tells to do after the package is installed."""
    text = (FILES.parent / "docs" / page).read_text()
    block = text.partition(heading)[2].partition("```console\n")[2].partition("```")[0]
    commands = [line.removeprefix("# ") for line in block.splitlines()]
    return commands[commands.index("cd /opt/shipway/share/shipway/systemd") + 1 :]


def install(machine: Systemd, commands: Sequence[str]) -> None:
    """Do what a page tells."""
    machine.run("sh", "-exc", f"cd {FILES}\n" + "\n".join(commands))
    machine.ctl("daemon-reload")


def configure_daemon(
    machine: Systemd, unit: str, path: str, settings: Mapping[str, Any], *, group: str
) -> None:
    """Write the settings file of a daemon of *group*, which is started again without delay."""
    machine.write(path, yaml.safe_dump(dict(settings)), mode="640")
    machine.run("chgrp", group, path)
    machine.write(f"/etc/systemd/system/{unit}.d/test.conf", "[Service]\nRestartSec=100ms\n")
    machine.ctl("daemon-reload")


class AgentService:
    """The agent as a service, for one test. Methods let the test's own tasks go on meanwhile."""

    def __init__(self, machine: Systemd, master: StandInMaster) -> None:
        self.machine = machine
        self.settings: dict[str, Any] = {
            "master_host": "127.0.0.1",
            "master_port": master.port,
            "agent_id": "node1",
            "artificial_slots": 2,
            "container_runtime": "sandbox",
            "agent_reconnect_backoff": 0.2,
        }

    async def configure(
        self,
        settings: Mapping[str, Any] | str | None = None,
        *,
        unit: str = "",
        variables: str = "",
    ) -> None:
        """Write the settings file, a drop-in for the unit and the environment file."""
        text = settings if isinstance(settings, str) else yaml.safe_dump(settings or self.settings)

        drop_in = f"[Service]\nRestartSec=100ms\n{unit}\n"
        await self.run("sh", "-ec", _CONFIGURE, "sh", text, drop_in, variables)

    async def ctl(self, *words: str, check: bool = True) -> str:
        try:
            return await asyncio.to_thread(self.machine.ctl, *words, check=check)
        except LabError as error:
            log = await asyncio.to_thread(self.machine.journal, UNIT, "--lines=40")
            raise LabError(f"{error}\n{log}") from error

    async def show(self, *names: str, unit: str = UNIT) -> list[str]:
        return await asyncio.to_thread(self.machine.show, unit, *names)

    async def main_pid(self) -> str:
        (pid,) = await self.show("MainPID")
        return pid

    async def run(self, *words: str, check: bool = True) -> str:
        done = await asyncio.to_thread(self.machine.run, *words, check=check)
        return done.stdout

    async def journal(self, *options: str) -> str:
        (invocation,) = await self.show("InvocationID")
        return await asyncio.to_thread(
            self.machine.journal, UNIT, *options, f"_SYSTEMD_INVOCATION_ID={invocation}"
        )

    async def until(self, name: str, value: str, *, limit_s: float = 60) -> None:
        """Wait until a property of the unit contains *value*."""
        seen = ""
        try:
            async with asyncio.timeout(limit_s):
                while value not in seen:
                    await asyncio.sleep(0.2)  # a look is a process in the container
                    (seen,) = await self.show(name)
        except TimeoutError:
            log = await asyncio.to_thread(self.machine.journal, UNIT, "--lines=40")
            raise AssertionError(f"{name} is {seen!r}, never {value!r}\n{log}") from None

    async def clean(self) -> None:
        """Leave nothing for the next test."""
        await self.run("sh", "-c", _CLEAN, check=False)


@pytest.fixture
async def master() -> AsyncIterator[StandInMaster]:
    async with StandInMaster() as master:
        yield master
    assert master.faults == []


@pytest.fixture
async def service(machine: Systemd, master: StandInMaster) -> AsyncIterator[AgentService]:
    """The unit, not started yet."""
    service = AgentService(machine, master)
    await service.configure()
    try:
        yield service
    finally:
        await service.clean()
