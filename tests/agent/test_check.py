"""`shipway-agent check`: all of it at once, without a start and without leaving anything."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from shipway_agent.checks.node import check_cgroups
from shipway_agent.statelock import lock_state_dir

Checked = tuple[int, list[tuple[str, str, str]]]


async def check(*words: str | Path, environ: dict[str, str] | None = None) -> Checked:
    """Run `check --json`; returns the exit status, and severity, place and text of each finding."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "shipway_agent", "check", "--json", *map(str, words)),
        env={"PATH": os.environ["PATH"], **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b""
    found = json.loads(out)
    assert process.returncode is not None
    assert found["ok"] == (process.returncode == 0)
    return process.returncode, [
        (one["severity"], one["place"], one["text"]) for one in found["findings"]
    ]


def has(checked: Checked, severity: str, place: str, text: str) -> bool:
    return any((one[0], one[1]) == (severity, place) and text in one[2] for one in checked[1])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write the settings of a machine on which all is well, with changes."""

    def write(**changes: Any) -> Path:
        file = tmp_path / "agent.yaml"
        settings = {
            "master_host": "127.0.0.1",
            "master_port": 1,
            "artificial_slots": 2,
            "state_dir": str(tmp_path / "state"),
            "container_runtime": "sandbox",
            **changes,
        }
        file.write_text(yaml.safe_dump(settings))
        file.chmod(0o644)
        return file

    return write


@asynccontextmanager
async def master(
    *, tls: ssl.SSLContext | None = None, answer: object = None, behind_s: float = 0
) -> AsyncIterator[int]:
    """Serve /info as a master does; yields the port."""

    async def info(request: web.Request) -> web.Response:
        headers = {"Date": formatdate(time.time() - behind_s, usegmt=True)}
        return web.json_response(answer or {"version": "0.38.1"}, headers=headers)

    app = web.Application()
    app.router.add_get("/info", info)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Make a certificate for master.test that is valid for some days."""

    def make(days: int) -> Path:
        file = tmp_path_factory.mktemp("tls") / "both.pem"
        done = subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days)),
                *("-subj", "/CN=master.test", "-addext", "subjectAltName=DNS:master.test"),
                *("-keyout", "-", "-out", "-"),
            ],
            check=True,
            capture_output=True,
        )
        file.write_bytes(done.stdout)
        return file

    return make


async def test_a_machine_that_is_ready(write: Callable[..., Path], tmp_path: Path) -> None:
    async with master() as port:
        file = write(master_port=port)
        checked = await check("--config", file)
    assert checked[0] == 0
    assert has(checked, "ok", str(file), "can be read")
    assert has(checked, "ok", f"{file}: state_dir", f"{tmp_path}/state will be made")
    assert has(checked, "ok", f"{file}: security.tls.enabled", "off, to this machine")
    assert has(checked, "ok", f"{file}: master_host", f"127.0.0.1:{port} answers, version 0.38.1")
    assert has(checked, "ok", f"{file}: master_host", "clock and this machine's agree")
    assert has(checked, "ok", f"{file}: slot_type", "2 slots: Artificial")
    assert has(checked, "ok", f"{file}: container_runtime", "sandbox: ")


async def test_every_mistake_in_the_settings_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("master_hots: m\nmaster_port: 70000\n")
    checked = await check("--config", file, environ={"DET_SLOT_TYPE": "tpu"})
    assert checked[0] == 1
    assert has(checked, "error", f"{file}: master_hots", "did you mean master_host?")
    assert has(checked, "error", f"{file}: master_port", "65535")
    assert has(checked, "error", "DET_SLOT_TYPE", "'auto'")


async def test_what_has_no_effect_is_a_warning(write: Callable[..., Path]) -> None:
    file = write(label="gpu", agent_reconnect_attempts=5)
    checked = await check("--config", file, environ={"DET_FLUENT_PORT": "24224"})
    assert checked[0] == 0
    assert has(checked, "warning", f"{file}: label", "has no effect")
    assert has(checked, "warning", "DET_FLUENT_PORT", "has no effect")
    assert has(checked, "warning", f"{file}: agent_reconnect_attempts", "after 5 tries")


async def test_all_that_is_wrong_is_found_at_once(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    key = tmp_path / "key.pem"
    key.write_text("")
    tls = {"enabled": True, "client_cert": f"{tmp_path}/no.pem", "client_key": str(key)}
    (tmp_path / "file").write_text("")
    file = write(
        master_host="master.invalid",
        state_dir=f"{tmp_path}/file/state",
        container_runtime="enroot",
        security={"tls": {**tls, "skip_verify": True}},
        http_proxy="http://user:secret@proxy:3128",
        hooks={"on_connection_lost": ["no-such-program", "x"]},
        artificial_slots=0,
        slot_type="rocm",
    )
    for path in (file, key):
        path.chmod(0o666)
    checked = await check("--config", file)
    assert checked[0] == 1
    assert has(checked, "error", str(file), "everybody may write the file")
    assert has(checked, "error", f"{file}: http_proxy", "holds a password")
    assert has(checked, "error", f"{file}: security.tls.client_key", f"chmod o-rwx {key}")
    assert has(checked, "error", f"{file}: state_dir", f"{tmp_path}/file is no folder")
    assert has(checked, "warning", f"{file}: security.tls.skip_verify", "not verified")
    assert has(checked, "error", f"{file}: security.tls", f"{tmp_path}/no.pem")
    assert has(checked, "warning", f"{file}: master_host", "no address of that name")
    assert has(checked, "error", f"{file}: slot_type", "")
    assert has(checked, "error", f"{file}: container_runtime", "enroot is not used")
    assert has(checked, "error", f"{file}: hooks.on_connection_lost", "no program no-such-program")
    assert "secret" not in str(checked)


async def test_a_runtime_that_has_no_place_for_its_tasks_is_told(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    file = write(state_dir=f"{tmp_path}/file/state")
    checked = await check("--config", file)
    assert has(checked, "error", f"{file}: container_runtime", f"{tmp_path}/file/state")


async def test_the_agent_refuses_unsafe_files_too(write: Callable[..., Path]) -> None:
    file = write()
    file.chmod(0o666)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shipway_agent", "run", "--config", file),
        stderr=subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == os.EX_CONFIG
    assert f"{file}: everybody may write the file" in err.decode()


async def test_a_master_that_is_away_is_no_error(write: Callable[..., Path]) -> None:
    file = write()
    checked = await check("--config", file)
    assert checked[0] == 0
    assert has(checked, "warning", f"{file}: master_host", "the agent would keep trying")


async def test_something_else_at_the_masters_address(write: Callable[..., Path]) -> None:
    async with master(answer=["something else"]) as port:
        file = write(master_port=port)
        checked = await check("--config", file)
    assert has(checked, "warning", f"{file}: master_host", "is this its address?")


@pytest.mark.parametrize(
    ("behind_s", "words"), [(90, "s ahead of"), (-90, "s behind")], ids=["ahead", "behind"]
)
async def test_clocks_that_differ(write: Callable[..., Path], behind_s: float, words: str) -> None:
    async with master(behind_s=behind_s) as port:
        file = write(master_port=port)
        checked = await check("--config", file)
    assert any(one[0] == "warning" and words in one[2] for one in checked[1])


async def test_the_masters_certificate(
    write: Callable[..., Path], make_certificate: Callable[[int], Path]
) -> None:
    certificate = make_certificate(5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with master(tls=context) as port:
        trusted = {"enabled": True, "master_cert": str(certificate)}
        file = write(
            master_port=port, security={"tls": {**trusted, "master_cert_name": "master.test"}}
        )
        checked = await check("--config", file)
        assert checked[0] == 0
        assert has(checked, "warning", f"{file}: security.tls", "days")
        assert has(checked, "ok", f"{file}: master_host", "answers, version 0.38.1")

        checked = await check("--config", write(master_port=port, security={"tls": trusted}))
        assert checked[0] == 1
        assert has(checked, "error", f"{file}: security.tls", "mismatch")

        file = write(master_port=port, security={"tls": {"enabled": True}})
        checked = await check("--config", file)
        assert has(checked, "error", f"{file}: security.tls", "self-signed")


async def test_a_master_without_tls(write: Callable[..., Path]) -> None:
    async with master() as port:
        file = write(master_port=port, security={"tls": {"enabled": True}})
        checked = await check("--config", file)
    assert checked[0] == 1
    assert has(checked, "error", f"{file}: security.tls", "no TLS with the master")


async def test_an_agent_that_runs_here_is_named(write: Callable[..., Path], tmp_path: Path) -> None:
    file = write()
    with lock_state_dir(tmp_path / "state"):
        checked = await check("--config", file)
    assert has(checked, "ok", f"{file}: state_dir", f"process id {os.getpid()}")
    assert not any("process id" in one[2] for one in (await check("--config", file))[1])


@pytest.mark.parametrize(
    ("files", "severity", "text"),
    [
        ({"cgroup.controllers": "cpuset cpu io memory pids\n"}, "ok", "version 2"),
        ({"cgroup.controllers": "cpuset pids\n"}, "warning", "without cpu, memory"),
        ({"memory/tasks": ""}, "ok", "version 1"),
        ({}, "warning", "no cgroups"),
    ],
    ids=["v2", "v2 without memory", "v1", "none"],
)
def test_cgroups_of_each_kind(
    files: dict[str, str], severity: str, text: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = check_cgroups("agent.yaml", tmp_path)
    assert found.severity == severity
    assert text in found.text


async def test_for_people_it_prints_lines(write: Callable[..., Path]) -> None:
    file = write(label="x")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shipway_agent", "check", "--config", file),
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    lines = out.decode().splitlines()
    assert lines[0].startswith(f"warning {file}: label: has no effect: ")
    assert any(line.startswith(f"ok      {file}: slot_type: 2 slots") for line in lines)
