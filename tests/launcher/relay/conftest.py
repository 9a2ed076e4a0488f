"""A stand-in master, relays in front of it, and a job's HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shipway_launcher.relay import MasterAddress, Relay, RelaySettings
from tests.launcher.relay.master import ALLOCATION, AUTH, TASK, TOKEN, TRIAL, StandInMaster

RunRelay = Callable[..., Any]


@pytest.fixture
async def master() -> AsyncIterator[StandInMaster]:
    async with StandInMaster() as master:
        yield master


@pytest.fixture
async def run_relay(master: StandInMaster, tmp_path: Path) -> AsyncIterator[RunRelay]:
    """Start a relay before `master`; give settings to change them. Call the result to stop it."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> tuple[Relay, Callable[[], Any]]:
            config = RelaySettings.model_validate({"port": 0, "master": master.url, **settings})
            own = await stack.enter_async_context(AsyncExitStack())
            address = MasterAddress(config.master, tmp_path / "master.json")
            relay = await own.enter_async_context(Relay(config, tmp_path / "spool", address))
            await relay.learn(make_environment(config.master or master.url))
            return relay, own.aclose

        yield start


@pytest.fixture
async def relay(run_relay: RunRelay) -> Relay:
    started, _ = await run_relay()
    return started


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        headers=AUTH, timeout=aiohttp.ClientTimeout(total=30)
    ) as session:
        yield session


def make_environment(master: str, **changes: str) -> dict[str, str]:
    """The variables of a task, as far as the relay looks at them."""
    return {
        "DET_MASTER": master,
        "DET_ALLOCATION_ID": ALLOCATION,
        "DET_TASK_ID": TASK,
        "DET_TRIAL_ID": str(TRIAL),
        "DET_SESSION_TOKEN": TOKEN,
        **changes,
    }


async def eventually(is_true: Callable[[], object], *, limit_s: float = 60) -> None:
    """Poll until *is_true*; the test fails if that takes too long."""
    async with asyncio.timeout(limit_s):
        while not is_true():  # noqa: ASYNC110 (it watches another process or task)
            await asyncio.sleep(0.01)
