"""The real agent with its own HTTP port open, GPUs by a stand-in driver."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.agent.conftest import AgentProcess
from tests.agent.profiler.driver import Driver, compile_library


class Port:
    """The agent's own port, as a scraper sees it."""

    def __init__(self, agent: AgentProcess) -> None:
        self._agent = agent
        self.trust: ssl.SSLContext | None = None
        self.session = aiohttp.ClientSession()

    async def find_url(self) -> str:
        """Wait until the agent says where its port is."""
        async with asyncio.timeout(60):
            while True:
                found = re.findall(r"local port is open host=(\S+) port=(\d+)", self._log())
                if found:
                    scheme = "http" if self.trust is None else "https"
                    return f"{scheme}://{found[-1][0]}:{found[-1][1]}"
                await asyncio.sleep(0.02)

    async def get(self, path: str, **headers: str) -> tuple[int, str, Any]:
        """Return status, content type and body; JSON is parsed."""
        url = await self.find_url()
        trust = self.trust if self.trust is not None else True
        async with self.session.get(url + path, headers=headers, ssl=trust) as answer:
            kind = answer.headers["Content-Type"]
            is_json = kind.startswith("application/json")
            return answer.status, kind, await (answer.json() if is_json else answer.text())

    async def until(self, path: str, status: int) -> Any:
        """Ask until the answer has this status."""
        async with asyncio.timeout(60):
            while True:
                got, _, body = await self.get(path)
                if got == status:
                    return body
                await asyncio.sleep(0.05)

    def _log(self) -> str:
        return self._agent.log.read_text() if self._agent.log.exists() else ""


@pytest.fixture
async def port(agent: AgentProcess) -> AsyncIterator[Port]:
    """The port of an agent that is not started yet."""
    agent.settings |= {"api_enabled": "true", "bind_port": "0"}
    port = Port(agent)
    yield port
    await port.session.close()


@pytest.fixture(scope="session")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def gpus(nvml: Path, tmp_path: Path, agent: AgentProcess) -> Driver:
    """Make the agent one of a node with two GPUs."""
    driver = Driver(nvml, tmp_path / "gpus")
    agent.environ |= driver.environ
    del agent.settings["artificial_slots"]
    agent.settings["slot_type"] = "cuda"
    agent.settings["sandbox_mode"] = "process"  # walls need the devices of a real driver
    return driver
