"""How much, how fast and how slowly may be asked; and TLS."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.lab.folders import new_folder
from tests.lab.processes import run, wait_until
from tests.lab.shipway import Launcher, program
from tests.launcher.api.bare import make_certificate, make_launcher
from tests.launcher.api.conftest import MakesTokens
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher of narrow limits, on a machine without Slurm."""
    folder = new_folder("limits")
    limits = {"body_timeout_s": 1, "requests_per_s": 2, "body_mib": 1}
    daemon = make_launcher(folder, limits=limits)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


def connect(rest: Rest) -> socket.socket:
    parts = urlsplit(rest.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def read_all(link: socket.socket) -> bytes:
    """Read until the launcher hangs up."""
    parts = []
    while part := link.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_a_user_who_asks_too_often_has_to_wait(rest: Rest, token_of: MakesTokens) -> None:
    eager, other = token_of("eager"), token_of("other")
    answers = [rest("GET", "/running", token=eager) for _ in range(40)]
    assert [answer.status for answer in answers[:8]] == [200] * 8, "some at once are nothing"
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert "eager" in refused[0].detail
    assert "limits.requests_per_s" in refused[0].detail
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 4
    assert rest("GET", "/running", token=other).status == 200
    assert rest("GET", "/info/version/server", token=eager).status == 200
    wait_until(
        lambda: rest("GET", "/running", token=eager).status == 200, "it may again", limit_s=60
    )


def test_wrong_tokens_are_held_up_and_the_right_one_is_not(rest: Rest) -> None:
    """They come from the same address as the master's calls."""
    found = [rest("GET", "/running", token=f"guess{number}").status for number in range(40)]
    assert found[0] == 401
    assert found[-1] == 429
    assert [rest("GET", "/running").status for _ in range(40)] == [200] * 40


def test_a_body_that_does_not_come(rest: Rest) -> None:
    head = (
        f"PUT /launch/credentials/x/y HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rest.token}\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )
    with closing(connect(rest)) as link:
        link.sendall(head.encode())
        answer = http.client.HTTPResponse(link)
        answer.begin()
        assert answer.status == 408
        assert "limits.body_timeout_s" in json.load(answer)["detail"]


def test_a_body_that_comes_drop_by_drop(rest: Rest) -> None:
    head = (
        f"PUT /launch/credentials/x/y HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rest.token}\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    with closing(connect(rest)) as link:
        link.sendall(head.encode())
        link.settimeout(0.2)
        answer = b""
        deadline = time.monotonic() + 60
        while not answer:
            assert time.monotonic() < deadline
            link.sendall(b"1\r\n \r\n")
            try:
                answer = link.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_body_of_a_caller_without_a_token_is_not_waited_for(rest: Rest) -> None:
    head = (
        "PUT /launch?impersonate= HTTP/1.1\r\nHost: x\r\n"
        "Content-Length: 1000000\r\nConnection: close\r\n\r\n"
    )
    with closing(connect(rest)) as link:
        link.sendall(head.encode())
        answer = link.recv(65536)
    assert b" 401 " in answer or b" 429 " in answer, answer


def test_a_request_that_does_not_come_is_not_waited_for(rest: Rest, launcher: Launcher) -> None:
    with contextlib.ExitStack() as stack:
        begun = [b"", b"GET /running HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: "]
        links = [stack.enter_context(closing(connect(rest))) for _ in begun]
        for link, data in zip(links, begun, strict=True):
            link.sendall(data)
        assert [read_all(link) for link in links] == [b""] * 3
    assert "Traceback" not in launcher.log.read_text()


def test_a_link_that_rests_is_kept_for_the_next_request(rest: Rest) -> None:
    request = (
        f"GET /running HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rest.token}\r\n\r\n".encode()
    )
    with closing(connect(rest)) as link:
        for _ in range(2):
            link.sendall(request)
            assert link.recv(65536).startswith(b"HTTP/1.1 200 ")
            with closing(connect(rest)) as silent:  # by its end the first has rested for as long
                assert read_all(silent) == b""


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Launcher, Rest]]:
    """A launcher that speaks https."""
    folder = new_folder("tls")
    cert, key = make_certificate(folder)
    daemon = make_launcher(folder, tls={"cert_file": str(cert), "key_file": str(key)})
    daemon.url = daemon.url.replace("http:", "https:")
    super(Launcher, daemon).start()
    context = ssl.create_default_context(cafile=str(cert))
    port = urlsplit(daemon.url).port

    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            return False
        return True

    daemon.wait_until(answers, "it listens")
    try:
        yield daemon, Rest(daemon.url, daemon.token_file.read_text(), tls=context)
    finally:
        daemon.stop()
        shutil.rmtree(folder)


def test_https(secure: tuple[Launcher, Rest]) -> None:
    daemon, rest = secure
    assert rest("GET", "/info/version/server").body == b"3.3.7"
    assert rest("GET", "/running").status == 200
    assert rest("PUT", "/launch?impersonate=", make_manifest()).status == 500, "there is no Slurm"
    words = [program("shipway-launcher"), "ps", "--json", "--config", daemon.config]
    assert json.loads(run(words).stdout) == []


def test_old_protocols_and_plain_http_get_nothing(secure: tuple[Launcher, Rest]) -> None:
    daemon, rest = secure
    port = urlsplit(daemon.url).port
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as link,
        old.wrap_socket(link) as tls,
    ):
        assert tls.version() == "TLSv1.2"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        link.sendall(b"GET /info/version/server HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"3.3.7" not in read_all(link)
    with pytest.raises(ssl.SSLCertVerificationError):
        Rest(daemon.url, "", tls=ssl.create_default_context())("GET", "/info/version/server")
    assert rest("GET", "/running").status == 200
    assert "Traceback" not in daemon.log.read_text()
