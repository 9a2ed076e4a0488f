"""Which ways to a master there are, and whom is trusted on them; against a real TLS server."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.config import AgentSettings
from shipway_agent.logs.batch import Batch
from shipway_agent.logs.encode import BatchEncoder
from shipway_agent.logs.lines import LineSplitter
from shipway_agent.logs.place import LogPlace, agent_log_place, job_log_place
from shipway_agent.logs.routes import LogRoutes, TaskRoute
from shipway_agent.taskapi import CallFailed
from tests.agent.logs.conftest import SOURCE
from tests.agent.logs.stand_in import TOKEN, LogApi


def make_certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate with its key in the same file."""
    folder.mkdir(exist_ok=True)
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    file = folder / "both.pem"
    file.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return file


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("one"), "master.test")


@pytest.fixture(scope="session")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("client"), "agent.test")


def server_tls(certificate: Path, *, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


def settings(api: LogApi, tls: dict[str, Any] | None = None) -> AgentSettings:
    return AgentSettings.model_validate(
        {
            "master_host": "127.0.0.1",
            "master_port": api.port,
            "security": {"tls": {"enabled": tls is not None, **(tls or {})}},
        }
    )


def one_line() -> Batch:
    batch = Batch()
    for lines in LineSplitter().feed("stdout", b"x\n", 0.0):
        batch.add(lines, 1)
    return batch


async def post(find_place: Callable[[], LogPlace]) -> None:
    async with (
        LogRoutes(find_place) as routes,
        TaskRoute(routes, BatchEncoder(SOURCE), TOKEN) as route,
    ):
        await route.post(one_line())


@pytest.mark.parametrize(
    ("tls", "way"),
    [
        ({"master_cert": True, "master_cert_name": "master.test"}, "grpc"),
        ({"skip_verify": True}, "rest"),
        ({"master_cert": True}, None),
        ({"master_cert": True, "master_cert_name": "other.test"}, None),
        ({"master_cert_name": "master.test"}, None),
    ],
    ids=["named", "not verified", "another name", "a wrong name", "not trusted"],
)
async def test_a_master_is_verified_by_grpc_as_by_the_websocket(
    certificate: Path, tls: dict[str, Any], way: str | None
) -> None:
    if tls.get("master_cert"):
        tls = {**tls, "master_cert": certificate}
    async with LogApi(tls=server_tls(certificate)) as api:
        place = agent_log_place(settings(api, tls), {})
        if way is None:
            with pytest.raises(CallFailed):
                await post(lambda: place)
        else:
            await post(lambda: place)
        assert api.calls == ([] if way is None else [way])


async def test_the_agent_shows_its_own_certificate(
    certificate: Path, client_certificate: Path
) -> None:
    tls = {"master_cert": certificate, "master_cert_name": "master.test"}
    own = {"client_cert": client_certificate, "client_key": client_certificate}
    async with LogApi(tls=server_tls(certificate, clients=client_certificate)) as api:
        with pytest.raises(CallFailed):
            await post(lambda: agent_log_place(settings(api, tls), {}))
        await post(lambda: agent_log_place(settings(api, {**tls, **own}), {}))
        assert api.calls == ["grpc"]


async def test_without_tls_grpc_is_spoken_in_plain(api: LogApi) -> None:
    await post(lambda: agent_log_place(settings(api), {}))
    assert api.calls == ["grpc"]


def test_a_proxy_leads_to_rest(api: LogApi) -> None:
    config = settings(api).model_copy(update={"master_host": "master.test"})
    place = agent_log_place(config, {"HTTP_PROXY": "http://proxy.test:3128"})
    assert place.grpc is None
    assert "proxy" in place.no_grpc_because
    assert agent_log_place(config, {}).grpc is not None


async def test_a_job_trusts_what_its_task_trusts(certificate: Path) -> None:
    names = {"DET_MASTER_CERT_FILE": str(certificate), "DET_MASTER_CERT_NAME": "master.test"}
    async with LogApi(tls=server_tls(certificate)) as api:
        url = f"https://127.0.0.1:{api.port}"
        await post(lambda: job_log_place(url, names, None))
        await post(lambda: job_log_place(url, {"DET_MASTER_CERT_FILE": "noverify"}, None))
        with pytest.raises(CallFailed):
            await post(lambda: job_log_place(url, {}, None))
        assert api.calls == ["grpc", "rest"]


async def test_a_renewed_certificate_is_read_while_calls_fail(tmp_path: Path) -> None:
    old = make_certificate(tmp_path / "old", "master.test")
    new = make_certificate(tmp_path / "new", "master.test")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(old.read_bytes())
    tls = {"master_cert": trusted, "master_cert_name": "master.test"}
    async with (
        LogApi(tls=server_tls(new)) as api,
        LogRoutes(lambda: agent_log_place(settings(api, tls), {}), read_again_s=0) as routes,
        TaskRoute(routes, BatchEncoder(SOURCE), TOKEN) as route,
    ):
        with pytest.raises(CallFailed):
            await route.post(one_line())
        await asyncio.to_thread(trusted.write_bytes, new.read_bytes())
        await route.post(one_line())
        assert api.calls == ["grpc"]
