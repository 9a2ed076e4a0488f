from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Protocol

import pytest

from tests.agent.slots.fake_driver import FakeDriver, compile_fake_nvml
from tests.agent.stand_in import StandInMaster


class HasPort(Protocol):
    """Whoever plays the master."""

    port: int


class AgentProcess:
    """`shipway-agent run` against a stand-in master, with the sandbox and artificial slots."""

    def __init__(self, master: HasPort, folder: Path) -> None:
        self._master = master
        self._process: asyncio.subprocess.Process | None = None
        self.log = folder / "agent.log"
        self.state_dir = folder / "state"
        self.environ: dict[str, str] = {}
        self.settings: dict[str, str] = {
            "master_host": "127.0.0.1",
            "agent_id": "node one",
            "artificial_slots": "2",
            "container_runtime": "sandbox",
            "agent_reconnect_backoff": "0.2",
        }

    async def start(self) -> None:
        flags = {
            **self.settings,
            "master_port": str(self._master.port),
            "state_dir": str(self.state_dir),
        }
        words = [f"--{key.replace('_', '-')}={value}" for key, value in flags.items()]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "shipway_agent",
                "run",
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self.log.parent), **self.environ},
            )

    async def end(self, number: signal.Signals = signal.SIGTERM, *, limit_s: float = 60) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        return await self.end_soon(number, limit_s=limit_s)

    def end_soon(
        self, number: signal.Signals = signal.SIGTERM, *, limit_s: float = 60
    ) -> Coroutine[None, None, int]:
        """Send a signal; what is returned waits for the end."""
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait(limit_s=limit_s)

    async def wait(self, *, limit_s: float = 60) -> int:
        assert self._process is not None
        async with asyncio.timeout(limit_s):
            return await self._process.wait()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def forgot_all(self, *but: str) -> None:
        """Wait until the agent has no record left of other containers than *but*."""
        async with asyncio.timeout(60):
            while {one.stem for one in self.records()} - set(but):  # noqa: ASYNC110 (another process writes them)
                await asyncio.sleep(0.05)

    def records(self) -> list[Path]:
        return sorted((self.state_dir / "containers").glob("*.json"))


@pytest.fixture
async def master() -> AsyncIterator[StandInMaster]:
    async with StandInMaster() as master:
        yield master
    assert master.faults == []


@pytest.fixture
async def agent(master: StandInMaster, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    """An agent that is not started yet; its containers are ended with the test."""
    agent = AgentProcess(master, tmp_path)
    try:
        yield agent
        if agent.records():
            # A master that knows nothing of them makes the agent end its containers.
            master.forgets = True
            hellos = len(master.hellos)
            if agent.is_running:
                await master.drop()
            else:
                await agent.start()
            await master.connected(hellos + 1)
            await agent.forgot_all()
        if agent.is_running:
            await agent.end()
    finally:
        if agent.is_running:
            await agent.end(signal.SIGKILL)


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for the driver's library."""
    return compile_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(fake_nvml: Path, tmp_path: Path) -> FakeDriver:
    return FakeDriver(fake_nvml, tmp_path)
