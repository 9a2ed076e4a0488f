"""Backups: whole, private, of one moment, and good to start from."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shipway_master.store.database import opened
from tests.master.running import MasterUnderTest, Prepared, master_running
from tests.master.tasks_in_store import add_task


def back_up(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "shipway_master", "backup", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_master_starts_from_a_copy_that_was_made_while_it_wrote(
    master: MasterUnderTest, prepared: Prepared, tmp_path: Path
) -> None:
    async with opened(master.database_url) as database:
        await add_task(database, "t", ended_at=datetime.now(UTC))
    target = tmp_path / "copy.db"

    async def write() -> int:
        sent = 0
        while not target.exists():
            logs = [{"taskId": "t", "log": f"{sent}\n"}]
            answer = await master.call("POST", "/task/logs", {"logs": logs})
            assert answer.status == 200
            sent += 1
        return sent

    writing = asyncio.create_task(write())
    done = await asyncio.to_thread(back_up, "--data", master.data, target)
    sent = await writing

    assert done.returncode == 0, done.stderr
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "data"]
    folder = tmp_path / "restored"
    folder.mkdir()
    target.rename(folder / "master.db")
    again = Prepared(folder, prepared.admin_token, prepared.user_token)
    async with master_running(again, tmp_path / "again") as restored:
        body = (await restored.call("GET", "/tasks/t/logs")).body
        assert 0 < body.count(b'"result"') <= sent


def test_what_cannot_be_copied_is_named(prepared: Prepared, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    none = back_up("--data", tmp_path / "nowhere", target)
    target.write_text("precious")
    taken = back_up("--data", prepared.folder, target)
    no_folder = back_up("--data", prepared.folder, tmp_path / "missing" / "copy.db")
    too_long = back_up("--data", prepared.folder, tmp_path / ("x" * 300))

    assert "there is no database" in none.stderr
    assert "exists" in taken.stderr
    assert target.read_text() == "precious"
    assert "missing" in no_folder.stderr
    assert "too long" in too_long.stderr
    tries = (none, taken, no_folder, too_long)
    assert {one.returncode for one in tries} == {1}
    assert not [one for one in tries if "Traceback" in one.stderr]


@pytest.mark.parametrize("place", [0, 8192], ids=["its head", "its middle"])
def test_a_damaged_database_makes_no_backup(prepared: Prepared, tmp_path: Path, place: int) -> None:
    source = tmp_path / "data"
    source.mkdir()
    content = bytearray((prepared.folder / "master.db").read_bytes())
    content[place : place + 4096] = b"\xa5" * 4096
    (source / "master.db").write_bytes(content)

    done = back_up("--data", source, tmp_path / "copy.db")

    assert done.returncode == 1
    assert "no backup was made" in done.stderr
    assert os.listdir(tmp_path) == ["data"]


def test_another_database_is_left_to_its_own_tools(tmp_path: Path) -> None:
    config = tmp_path / "master.yaml"
    config.write_text("db: {url: 'postgresql://u:p@127.0.0.1:1/n'}\n")
    done = back_up("--config", config, tmp_path / "copy.db")
    assert done.returncode == 1
    assert "pg_dump" in done.stderr
