"""`shipway-master check`: what it says of settings, folders, databases and launchers."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from shipway_common.findings import Finding, Grade
from shipway_master.checks.check import check
from shipway_master.config import MasterConfig
from shipway_master.folder import held
from tests.lab.processes import free_ports
from tests.master.certificates import make_certificate
from tests.master.hpc.standin import StandInLauncher
from tests.master.running import (
    PASSWORD,
    MasterUnderTest,
    Prepared,
    make_config,
    master_running,
)

OK, WARNING, ERROR = Grade.OK, Grade.WARNING, Grade.ERROR


async def look(config: MasterConfig, file: Path | None = None) -> list[Finding]:
    """Check."""
    return [finding async for finding in check(config, file=file)]


def found(findings: list[Finding], grade: Grade, key: str, part: str) -> bool:
    """Whether there is such a finding."""
    return any(
        one.grade is grade and one.key == key and part in one.text for one in findings
    ) or pytest.fail(f"no {grade} of {key} with {part!r} in\n" + "\n".join(map(str, findings)))


def worst(findings: list[Finding]) -> list[Finding]:
    """All that is not well."""
    return [one for one in findings if one.grade is not OK]


def tamper(folder: Path, statement: str) -> None:
    """Change a database while no master has it."""
    with closing(sqlite3.connect(folder / "master.db")) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncGenerator[StandInLauncher]:
    """Run a launcher."""
    standin = StandInLauncher(tmp_path / "token")
    async with standin.running():
        yield standin


async def test_a_first_start_is_announced_and_nothing_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    findings = await look(MasterConfig(data=folder, port=free_ports(1)[0]))

    assert [(one.grade, one.key) for one in worst(findings)] == [
        (WARNING, "checkpoint_storage.host_path")
    ]
    assert found(findings, OK, "data", "will be made at the first start")
    assert not folder.exists()


async def test_a_master_that_runs_is_left_alone_and_its_first_password_is_named(
    master: MasterUnderTest, origin: tuple[Any, Mapping[str, Any]]
) -> None:
    config = make_config(master.data, host="127.0.0.1", **origin[1])
    config = config.model_copy(update={"port": master.port})
    with held(master.data):
        findings = await look(config)

    key = "db.url" if "db" in origin[1] else "data"
    assert found(findings, OK, "port", "is in use, and a master runs")
    assert found(findings, OK, key, "its tables are up to date")
    assert found(findings, OK, "clock", "it says 20")
    assert found(findings, WARNING, "security.initial_user_password", "take it out")
    for name in ("admin", "determined"):
        text = f"{name} still has the password of the first start"
        assert found(findings, WARNING, "security.initial_user_password", text)
    assert ERROR not in {one.grade for one in findings}
    assert PASSWORD not in "".join(map(str, findings))


@pytest.mark.parametrize(
    ("change", "grade", "part"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", ERROR, "written by a newer release"),
        ("UPDATE alembic_version SET version_num = '0003'", WARNING, "back it up before"),
        ("DELETE FROM alembic_version", OK, "the first start makes its tables"),
    ],
    ids=["newer", "older", "empty"],
)
async def test_the_release_of_a_database_is_told(
    prepared: Prepared, tmp_path: Path, change: str, grade: Grade, part: str
) -> None:
    folder = shutil.copytree(prepared.folder, tmp_path / "data")
    tamper(folder, change)
    assert found(await look(make_config(folder)), grade, "data", part)


async def test_a_user_without_a_password_and_a_clock_behind_the_tasks_are_told(
    prepared: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    async with master_running(prepared, folder) as master:
        await master.call("POST", "/commands", {"config": {"entrypoint": ["x"]}})
    tamper(folder, "UPDATE users SET password_hash = NULL WHERE id = 1")
    tamper(folder, "UPDATE tasks SET started_at = 32472144000000000")
    findings = await look(make_config(folder))
    assert found(findings, ERROR, "security.initial_user_password", "admin has no password")
    assert found(findings, ERROR, "clock", "a task began at 2999-01-01")


async def test_what_is_open_to_others_or_cannot_be_had_is_told(
    tmp_path: Path,
) -> None:
    file = tmp_path / "master.yaml"
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    expired = make_certificate(tmp_path, timedelta(days=-1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings: dict[str, Any] = {
            "data": str(folder),
            "port": taken.getsockname()[1],
            "db": {"url": f"postgresql://u:topsy@127.0.0.1:{free_ports(1)[0]}/n"},
            "security": {"tls": {"cert": str(expired), "key": str(expired)}},
            "task_container_defaults": {"environment_variables": ["KEY=topsy"]},
            "checkpoint_storage": {"type": "s3", "bucket": "b", "secret_key": "topsy"},
        }
        file.write_text(yaml.safe_dump(settings))
        file.chmod(0o666)
        expired.chmod(0o644)
        findings = await look(MasterConfig.model_validate(settings), file)
    assert found(findings, ERROR, "settings", f"others may change {file}")
    for key in (
        "db.url",
        "checkpoint_storage.secret_key",
        "task_container_defaults.environment_variables.cpu.0",
    ):
        assert found(findings, WARNING, key, "everybody on this machine may read it")
    assert found(findings, ERROR, "data", "is open to others; chmod go=")
    assert found(findings, ERROR, "port", "is in use by another program")
    assert found(findings, ERROR, "db.url", "cannot be reached")
    assert found(findings, ERROR, "security.tls.cert", "has expired on")
    assert found(findings, ERROR, "security.tls.key", "everybody may read")
    assert "topsy" not in "".join(map(str, findings))
    open_to_all = await look(MasterConfig(data=folder, host="0.0.0.0", port=free_ports(1)[0]))
    assert found(open_to_all, WARNING, "host", "go unencrypted")


async def test_launchers_are_asked_with_the_masters_token(
    tmp_path: Path, launcher: StandInLauncher
) -> None:
    def config(**changes: Any) -> MasterConfig:
        manager = {**launcher.config(), **changes}
        more = [{"resource_manager": manager}]
        return make_config(tmp_path / "data", additional_resource_managers=more)

    key = "additional_resource_managers.0.resource_manager"
    assert found(await look(config()), OK, f"{key}.host", "answers, version")
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    refused = await look(config(auth_file=str(wrong)))
    assert found(refused, ERROR, f"{key}.auth_file", "does not take the token")
    away = await look(config(port=free_ports(1)[0]))
    assert found(away, ERROR, f"{key}.host", "does not answer")


def test_the_command_says_it_and_ends_by_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    file = tmp_path / "master.yaml"
    file.write_text(f"data: {tmp_path}/data\nport: {free_ports(1)[0]}\n")
    done = subprocess.run(
        [sys.executable, "-m", "shipway_master", "check", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(f"settings of {file}\n")
    assert f"\nbad  data: {tmp_path}/data is open to others" in done.stdout
