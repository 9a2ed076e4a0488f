"""Certificates that are renewed while the launcher runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shipway_launcher.errors import SetupError
from shipway_launcher.tls import Certificate


def make_certificate(folder: Path) -> Path:
    path = folder / "own.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", "/CN=x"]
    argv += ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return path


def in_der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """A server that takes up a renewed certificate at once."""
    path = make_certificate(tmp_path)
    certificate = Certificate(path, path.with_suffix(".key"))
    certificate.load()
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate.context
    )
    async with server, asyncio.TaskGroup() as group:
        renewing = group.create_task(certificate.renew(0.01))
        yield server.sockets[0].getsockname()[1]
        renewing.cancel()


async def shown(port: int) -> bytes:
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=unverified)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):  # the server has hung up
        await writer.wait_closed()
    return found


async def test_a_renewed_certificate_is_shown_and_a_damaged_one_is_not(
    port: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "own.crt"
    before = in_der(path)
    assert await shown(port) == before
    path.write_text("half of a")
    await until_told(caplog, "is not used")
    assert await shown(port) == before
    make_certificate(tmp_path)
    async with asyncio.timeout(60):
        while await shown(port) != in_der(path):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("port")
async def test_each_reason_to_go_on_with_the_old_certificate_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path, kept = tmp_path / "own.crt", tmp_path / "kept.crt"
    path.rename(kept)
    await until_told(caplog, "is not used")
    path.write_text("half of a")
    await until_told(caplog, "is not used", times=2)
    kept.replace(path)
    await until_told(caplog, "the one in use again")
    reasons = [one.getMessage() for one in caplog.records if "is not used" in one.message]
    assert "No such file" in reasons[0]
    assert len(reasons) == len(set(reasons))


async def until_told(caplog: pytest.LogCaptureFixture, text: str, *, times: int = 1) -> None:
    """Wait until *text* is in the log so many times."""
    async with asyncio.timeout(60):
        while caplog.text.count(text) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_files_that_do_not_fit_are_named_with_their_setting(tmp_path: Path) -> None:
    path = make_certificate(tmp_path)
    with pytest.raises(SetupError, match=r"relay\.listen_tls: .*own\.crt with .*own\.crt"):
        Certificate(path, path, setting="relay.listen_tls").load()
