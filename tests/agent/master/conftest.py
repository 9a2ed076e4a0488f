from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.conftest import AgentProcess
from tests.agent.master.peer import Peer, options


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer() as peer:
        yield peer


@pytest.fixture
async def lone(peer: Peer, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    """An agent for the peer, not started yet; its containers are ended with the test."""
    agent = AgentProcess(peer, tmp_path)
    agent.settings |= {"agent_id": "gpu-07", "registration_pause_s": "0"}
    try:
        yield agent
        if agent.records():
            peer.refusals.clear()
            await peer.hang_up()
            if not agent.is_running:
                await agent.start()
            await peer.greeted(options())  # this master knows of no container
            await agent.forgot_all()
    finally:
        if agent.is_running:
            await agent.end(signal.SIGKILL)
