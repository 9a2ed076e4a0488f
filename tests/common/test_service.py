"""What systemd is told, at a socket as systemd opens one."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shipway_common.service import ServiceManager, without_manager


class Manager:
    """The end of systemd."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address}

    def close(self) -> None:
        self._socket.close()

    async def hears(self) -> list[str]:
        async with asyncio.timeout(60):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        return data.decode().split("\n")

    def has_heard(self) -> bool:
        try:
            return bool(self._socket.recv(4096))
        except BlockingIOError:
            return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = f"{tmp_path}/notify" if request.param == "path" else f"@shipway-test-{os.getpid()}"
    manager = Manager(address)
    yield manager
    manager.close()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Manager]:
    """A manager that wants a sign of life every 0.3 seconds."""
    manager = Manager(f"{tmp_path}/notify")
    manager.environ |= {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}
    yield manager
    manager.close()


async def test_the_start_is_told_once_with_what_the_agent_does(manager: Manager) -> None:
    service = ServiceManager(manager.environ)
    service.describe = lambda: "serving"
    service.ready()
    service.ready()
    assert await manager.hears() == ["READY=1", "STATUS=serving"]
    service.stopping()
    assert (await manager.hears())[0] == "STOPPING=1"
    assert not manager.has_heard()


async def test_what_changes_is_told_and_signs_of_life_are_given(watching: Manager) -> None:
    service = ServiceManager(watching.environ)
    telling = asyncio.create_task(service.keep_told())
    assert await watching.hears() == ["WATCHDOG=1", "STATUS=starting"]
    assert await watching.hears() == ["WATCHDOG=1"]
    service.describe = lambda: "3 containers"
    assert "STATUS=3 containers" in [line for _ in range(2) for line in await watching.hears()]
    telling.cancel()
    await asyncio.wait([telling])


async def test_no_sign_of_life_while_every_thread_hangs(watching: Manager) -> None:
    executor = ThreadPoolExecutor(max_workers=1)
    asyncio.get_running_loop().set_default_executor(executor)
    service = ServiceManager(watching.environ)
    release, hangs = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        release.wait()

    hanging = asyncio.create_task(asyncio.to_thread(hang))
    async with asyncio.timeout(60):
        while not hangs.is_set():  # noqa: ASYNC110 (a thread sets it)
            await asyncio.sleep(0.01)
    telling = asyncio.create_task(service.keep_told())
    async with asyncio.timeout(60):
        while executor._work_queue.empty():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not watching.has_heard()
    release.set()
    assert "WATCHDOG=1" in await watching.hears()
    telling.cancel()
    await asyncio.wait([telling, hanging])


async def test_a_watchdog_of_another_process_is_not_ours(watching: Manager) -> None:
    service = ServiceManager({**watching.environ, "WATCHDOG_PID": "1"})
    telling = asyncio.create_task(service.keep_told())
    assert await watching.hears() == ["STATUS=starting"]
    telling.cancel()
    await asyncio.wait([telling])


async def test_nobody_to_tell_is_no_error() -> None:
    service = ServiceManager({"WATCHDOG_USEC": "1000"})
    service.ready()
    service.stopping()
    assert not service.makes_units
    ServiceManager({"NOTIFY_SOCKET": "/nonexistent"}).ready()


def test_programs_of_the_agent_are_not_the_service(watching: Manager) -> None:
    assert without_manager({**watching.environ, "HOME": "/root"}) == {"HOME": "/root"}
