"""The relay makes sure that it talks to the right master, on both of its ways."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from aiohttp import web

from shipway_launcher.errors import SetupError
from shipway_launcher.relay.trust import MasterTrust
from tests.launcher.relay.conftest import RunRelay, eventually
from tests.launcher.relay.master import StandInMaster
from tests.launcher.relay.test_delivery import LOGS, make_line, post
from tests.launcher.relay.test_grpc import make_logs, unary

CERTIFICATE_NAME = "master.example"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for a name that is not in the URL, with its key beside it."""
    path = folder / "master.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", f"/CN={CERTIFICATE_NAME}"]
    argv += ["-addext", f"subjectAltName=DNS:{CERTIFICATE_NAME}"]
    argv += ["-keyout", str(folder / "master.key"), "-out", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return path


@pytest.fixture
async def tls_master(certificate: Path) -> StandInMaster:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    tls.set_alpn_protocols(["h2", "http/1.1"])

    async def me(request: web.Request) -> web.Response:
        return web.Response(text="it is me")

    master = StandInMaster(tls)
    master.answer = me
    return master


async def test_a_trusted_certificate_opens_both_ways(
    tls_master: StandInMaster,
    certificate: Path,
    run_relay: RunRelay,
    client: aiohttp.ClientSession,
) -> None:
    async with tls_master:
        relay, stop = await run_relay(
            master=tls_master.url,
            tls={"certificate_file": str(certificate), "certificate_name": CERTIFICATE_NAME},
        )
        async with client.get(relay.url + "/api/v1/me") as answer:
            assert await answer.text() == "it is me"
        await post(client, relay.url + LOGS, {"logs": [make_line("x\n")]})
        await eventually(lambda: tls_master.lines == ["x\n"])
        await stop()


async def test_an_unknown_certificate_opens_neither(
    tls_master: StandInMaster,
    run_relay: RunRelay,
    client: aiohttp.ClientSession,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tls_master:
        relay, stop = await run_relay(master=tls_master.url, master_wait_s=0.1)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.get(relay.url + "/api/v1/me")
        await post(client, relay.url + LOGS, {"logs": [make_line("x\n")]})
        [record] = [r for r in caplog.records if "cannot pass a call" in r.message]
        assert "certificate" in str(record.__dict__["reason"])
        await stop()
        assert tls_master.lines == []


def listening_with(certificate: Path) -> dict[str, str]:
    return {"certificate_file": str(certificate), "key_file": str(certificate.with_suffix(".key"))}


async def test_jobs_reach_both_faces_by_tls(
    master: StandInMaster, certificate: Path, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay(listen_tls=listening_with(certificate))
    assert relay.url.startswith("https://")
    trust = ssl.create_default_context(cafile=str(certificate))
    body = {"logs": [make_line("by REST\n")]}
    async with client.post(
        relay.url + LOGS, json=body, ssl=trust, server_hostname=CERTIFICATE_NAME
    ) as answer:
        assert answer.status == 200
    roots = await asyncio.to_thread(certificate.read_bytes)
    credentials = grpc.ssl_channel_credentials(roots)
    options = [("grpc.ssl_target_name_override", CERTIFICATE_NAME)]
    address = relay.url.removeprefix("https://")
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        await unary(channel, "PostTaskLogs", make_logs("by gRPC\n"))
    await eventually(lambda: len(master.lines) == 2)
    assert set(master.lines) == {"by REST\n", "by gRPC\n"}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"key_file": "nowhere.key"}, "nowhere.key"),
        ({"key_file": "master.crt"}, "master.crt"),
    ],
)
async def test_a_certificate_that_cannot_be_used_is_named(
    certificate: Path, run_relay: RunRelay, tmp_path: Path, changes: dict[str, str], text: str
) -> None:
    wrong = {name: str(tmp_path / file) for name, file in changes.items()}
    with pytest.raises(SetupError, match=f"relay.listen_tls: .*{text}"):
        await run_relay(listen_tls=listening_with(certificate) | wrong)


async def test_the_masters_new_certificates_are_taken_up_and_damaged_ones_are_not(
    certificate: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trust = MasterTrust(certificate, look_every_s=0)
    first = await trust.current()
    assert await trust.current() is first
    await asyncio.to_thread(certificate.write_text, "half of a")
    for _ in range(2):
        assert await trust.current() is first
    assert caplog.text.count("are not used") == 1
    make_certificate(tmp_path)
    second = await trust.current()
    assert second.roots == await asyncio.to_thread(certificate.read_bytes) != first.roots
    assert await trust.current() is second


async def test_a_file_without_certificates_is_named_at_the_start(
    run_relay: RunRelay, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=r"relay\.tls\.certificate_file: .*none\.pem"):
        await run_relay(tls={"certificate_file": str(tmp_path / "none.pem")})


async def test_a_port_in_use_is_said_in_one_error(run_relay: RunRelay) -> None:
    relay, _ = await run_relay()
    with pytest.raises(OSError, match="in use"):
        await run_relay(port=int(relay.url.rpartition(":")[2]))
