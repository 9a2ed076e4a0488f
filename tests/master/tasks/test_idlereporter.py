"""What runs beside Jupyter and says whether somebody works there."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shipway_master.tasks.idlereporter import Activity, tell_master
from tests.master.certificates import make_certificate

KERNEL = {"connections": 0, "execution_state": "idle", "last_activity": "1"}
TERMINAL = {"name": "1", "last_activity": "1"}


@pytest.mark.parametrize(
    ("idle_type", "kernels", "terminals", "is_idle"),
    [
        ("kernels_or_terminals", [], [], True),
        ("kernels_or_terminals", [KERNEL], [], False),
        ("kernels_or_terminals", [], [TERMINAL], False),
        ("kernel_connections", [KERNEL], [TERMINAL], True),
        ("kernel_connections", [KERNEL, {**KERNEL, "connections": 1}], [], False),
        ("activity", [KERNEL], [TERMINAL], True),
        ("activity", [{**KERNEL, "execution_state": "busy"}], [], False),
        ("activity", [], [], True),
    ],
)
def test_what_counts_as_idle(
    idle_type: str, kernels: list[Any], terminals: list[Any], is_idle: bool
) -> None:
    activity = Activity(idle_type)
    activity.is_idle(kernels, terminals)  # what was before the first look is not known
    assert activity.is_idle(kernels, terminals) is is_idle


def test_new_activity_since_the_last_look_is_use() -> None:
    activity = Activity("activity")
    assert not activity.is_idle([KERNEL], [])
    assert activity.is_idle([KERNEL], [])
    assert not activity.is_idle([{**KERNEL, "last_activity": "2"}], [])
    assert not activity.is_idle([], [TERMINAL])


class Listener(BaseHTTPRequestHandler):
    """A master that hears reports."""

    heard: list[tuple[str, Mapping[str, str], bytes]]

    def do_PUT(self) -> None:
        """Hear one."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def master(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve with a certificate for master.test; gives the URL and the certificate."""
    Listener.heard = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    file = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/", file
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_master_is_told_as_the_task_and_by_its_certificate(master: tuple[str, Path]) -> None:
    url, file = master
    environment = {"DET_MASTER": url, "DET_TASK_ID": "t", "DET_SESSION_TOKEN": "secret"}
    named = {"DET_MASTER_CERT_FILE": str(file), "DET_MASTER_CERT_NAME": "master.test"}
    tell_master({**environment, **named}, is_idle=False)
    tell_master({**environment, "DET_MASTER_CERT_FILE": "noverify"}, is_idle=True)
    for wrong in ({}, {**named, "DET_MASTER_CERT_NAME": "other.test"}):
        with pytest.raises(OSError, match="certificate verify failed"):
            tell_master({**environment, **wrong}, is_idle=False)

    paths = [path for path, _, _ in Listener.heard]
    assert paths == ["/api/v1/notebooks/t/report_idle"] * 2
    assert Listener.heard[0][1]["Authorization"] == "Bearer secret"
    assert [body for _, _, body in Listener.heard] == [
        b'{"notebookId": "t", "idle": false}',
        b'{"notebookId": "t", "idle": true}',
    ]
