"""The master's one port, tried with bare sockets and over TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
from aiohttp import ClientError, ClientSession

from shipway_master.app import running
from shipway_master.errors import CannotStart
from shipway_proto.determined.api.v1.api_pb2_grpc import DeterminedStub
from shipway_proto.determined.api.v1.master_pb2 import GetMasterRequest
from tests.master.running import MasterUnderTest, Prepared, make_config

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\nX\n\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * (1 << 16),
    ],
    ids=["TLS", "nonsense", "bare line feeds", "endless header"],
)
async def test_nonsense_is_answered_or_hung_up_on(master: MasterUnderTest, first: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", master.port)
    writer.write(first)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert answer == b"" or answer.startswith(b"HTTP/1.0 400 ") or b" 400 " in answer[:20]


async def test_a_preface_that_goes_wrong_ends_only_its_connection(master: MasterUnderTest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", master.port)
    writer.write(PREFACE + b"\xff" * 100)
    await asyncio.wait_for(reader.read(), 60)
    writer.close()

    assert (await master.call("GET", "/me")).status == 200
    answer = await master.stub.GetMaster(GetMasterRequest())
    assert answer.version == "0.38.1"


async def test_thousands_may_call_by_grpc_at_once(master: MasterUnderTest) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(f"127.0.0.1:{master.port}", options=options)
            )
            for _ in range(8)
        ]
        stubs = [DeterminedStub(channel) for channel in channels]
        for channel in channels:  # each gives up by itself what takes too long to connect
            await channel.channel_ready()
        answers = await asyncio.gather(
            *(stubs[number % 8].GetMaster(GetMasterRequest()) for number in range(2048))
        )

    assert {answer.version for answer in answers} == {"0.38.1"}


async def test_all_is_there_over_tls(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    await asyncio.to_thread(_make_certificate, key, cert)
    folder = tmp_path / "data"
    config = make_config(folder, security={"tls": {"cert": cert, "key": key}})
    await asyncio.to_thread(folder.mkdir)
    trusted = ssl.create_default_context(cafile=str(cert))
    async with running(config) as master, ClientSession() as session:
        async with session.get(f"https://localhost:{master.port}/info", ssl=trusted) as response:
            assert (await response.json())["version"] == "0.38.1"
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{master.port}", credentials) as channel:
            answer = await DeterminedStub(channel).GetMaster(GetMasterRequest())
            assert answer.version == "0.38.1"
        with pytest.raises(ClientError):
            await session.get(f"http://localhost:{master.port}/info")
        trusted.set_alpn_protocols(["h2", "http/1.1"])  # as browsers and curl do
        _, writer = await asyncio.open_connection("localhost", master.port, ssl=trusted)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.close()
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


async def test_a_key_with_a_passphrase_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    await asyncio.to_thread(_make_certificate, key, cert, "-passout", "pass:secret")
    config = make_config(tmp_path, security={"tls": {"cert": cert, "key": key}})
    with pytest.raises(CannotStart, match="passphrase"):
        async with running(config):
            pass


def _make_certificate(key: Path, cert: Path, *protection: str) -> None:
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    protection = protection or ("-nodes",)
    made = ["-newkey", "rsa:2048", *protection, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", "req", "-x509", *made, *subject], check=True, capture_output=True)
