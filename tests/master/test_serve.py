"""`shipway-master serve` as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.master.running import until


@asynccontextmanager
async def served(*arguments: str) -> AsyncGenerator[tuple[Process, int, list[str]]]:
    """Run the command; yields the process, its port and the lines that it printed."""
    command = (sys.executable, "-m", "shipway_master", "serve", "--port", "0", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.ensure_future(process.stderr.read())
    try:
        async with asyncio.timeout(60):
            first = (await process.stdout.readline()).decode()
        assert first, (await errors).decode()
        lines = [first]
        if "initial" not in " ".join(arguments):
            lines.append((await process.stdout.readline()).decode())
        yield process, int(first.rpartition(":")[2]), lines
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(process.wait(), 60)
        assert status in (0, -signal.SIGKILL), (await errors).decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await errors


async def refused(*arguments: str, status: int = 1) -> str:
    """Run the command, which must fail at once; gives what it says."""
    command = (sys.executable, "-m", "shipway_master", "serve", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == status
    return errors.decode()


def mode(path: Path) -> int:
    """Get the permissions of *path*."""
    return stat.S_IMODE(path.stat().st_mode)


async def get(port: int, path: str) -> Any:
    """Get JSON."""
    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return await response.json()


async def log_in(port: int, password: str) -> int:
    """Try a password; gives the status."""
    body = json.dumps({"username": "admin", "password": password})
    async with (
        ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/api/v1/auth/login", data=body) as response,
    ):
        return response.status


async def test_a_generated_password_stays_over_a_restart_and_so_does_the_cluster(
    tmp_path: Path,
) -> None:
    data = tmp_path / "new" / "data"
    seen: list[Any] = []
    for _ in range(2):
        async with served("--data", str(data)) as (_, port, lines):
            path = Path(lines[1].rpartition(": ")[2].strip())
            assert mode(path) == 0o600
            password = await asyncio.to_thread(path.read_text)
            assert password not in "".join(lines)
            assert await log_in(port, password.strip()) == 200
            seen.append(await get(port, "/info"))

    assert mode(data) == 0o700
    assert seen[0]["cluster_id"] == seen[1]["cluster_id"]
    assert seen[0]["master_id"] != seen[1]["master_id"]


async def test_the_password_of_the_settings_is_used_and_none_is_written(tmp_path: Path) -> None:
    config = tmp_path / "initial.yaml"
    config.write_text("security: {initial_user_password: from-The-File-1}\ncluster_name: c")
    data = tmp_path / "data"
    async with served("--config", str(config), "--data", str(data)) as (_, port, _):
        assert await log_in(port, "from-The-File-1") == 200
        assert (await get(port, "/info"))["cluster_name"] == "c"

    assert not (data / "initial-password").exists()


async def test_a_killed_master_starts_again(tmp_path: Path) -> None:
    arguments = ("--data", str(tmp_path))
    async with served(*arguments) as (process, port, _):
        cluster_id = (await get(port, "/info"))["cluster_id"]
        process.kill()
        await process.wait()
    async with served(*arguments) as (_, port, _):
        assert (await get(port, "/info"))["cluster_id"] == cluster_id


async def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with served("--data", str(tmp_path)) as (process, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        process.send_signal(signal.SIGINT)
        await until(lambda: process.returncode is not None, limit_s=60)
        writer.close()


async def test_mistakes_are_told_and_nothing_is_started(tmp_path: Path) -> None:
    config = tmp_path / "master.yaml"
    config.write_text("prot: 1\nhost: 7")

    said = await refused("--config", str(config), "--data", str(tmp_path), status=78)

    assert "master.yaml" in said
    assert "prot" in said
    assert "host" in said
    assert "Traceback" not in said


async def test_what_cannot_be_had_at_the_start_is_told(tmp_path: Path) -> None:
    async with served("--data", str(tmp_path / "a")) as (_, port, _):
        in_use = await refused("--data", str(tmp_path / "b"), "--port", str(port))
        no_folder_left = await refused("--data", str(tmp_path / "a"), "--port", "0")
    (tmp_path / "file").write_text("")
    no_folder = await refused("--data", str(tmp_path / "file" / "x"))
    config = tmp_path / "master.yaml"
    config.write_text("security: {tls: {cert: /nowhere/a.pem, key: /nowhere/b.pem}}")
    no_cert = await refused("--data", str(tmp_path / "b"), "--config", str(config))

    assert f"port {port}" in in_use
    assert "address already in use" in in_use
    assert "in use by another master (process " in no_folder_left
    assert "Not a directory" in no_folder
    assert "security.tls: /nowhere/a.pem" in no_cert
    assert "Traceback" not in in_use + no_folder + no_cert + no_folder_left


async def test_files_that_cannot_be_read_as_what_they_are_are_told(tmp_path: Path) -> None:
    (tmp_path / "initial-password").touch()
    no_password = await refused("--data", str(tmp_path), "--port", "0")
    config = tmp_path / "master.yaml"
    config.write_bytes(b"\xff\xfe")
    no_text = await refused("--config", str(config), status=78)

    assert f"{tmp_path / 'initial-password'} holds no password" in no_password
    assert f"{config} is not UTF-8" in no_text
    assert "Traceback" not in no_password + no_text
