"""The relay makes sure that it talks to the right master, on both of its ways."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.launcher.relay.conftest import RunRelay, eventually
from tests.launcher.relay.master import StandInMaster
from tests.launcher.relay.test_delivery import LOGS, make_line, post

CERTIFICATE_NAME = "master.example"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for a name that is not in the URL, with its key beside it."""
    path = tmp_path / "master.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", f"/CN={CERTIFICATE_NAME}"]
    argv += ["-addext", f"subjectAltName=DNS:{CERTIFICATE_NAME}"]
    argv += ["-keyout", str(tmp_path / "master.key"), "-out", str(path)]
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
