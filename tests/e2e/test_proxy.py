"""What tasks serve, through the master's port: HTTP, websockets, TCP, and who gets there."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.e2e.conftest import Site
from tests.e2e.tasks import wait_for_end, wait_for_log
from tests.lab.processes import free_ports
from tests.lab.shipway import PASSWORD

_SERVER = Path(__file__).parent / "payloads/page_server.py"


@pytest.fixture(scope="module")
def service(site: Site) -> Iterator[str]:
    """The URL of a page that a command serves; the command's owner is `determined`."""
    page, stream = free_ports(2)
    config = {
        "entrypoint": [sys.executable, "-u", str(_SERVER), str(page)],
        "resources": {"slots": 0},
        "environment": {
            "proxy_ports": [
                {"proxy_port": page, "default_service_id": True},
                {"proxy_port": stream, "unauthenticated": True},
            ]
        },
    }
    command = site.api.call("POST", "/api/v1/commands", {"config": config})["command"]
    try:
        wait_for_log(site.api, command["id"], "Running on")
        yield f"{site.master.url}/proxy/{command['id']}"
    finally:
        site.api.call("POST", f"/api/v1/commands/{command['id']}/kill")
        wait_for_end(site.api, command["id"])


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    """Whoever logged in as the command's owner and has the cookie `auth`."""
    jar = aiohttp.CookieJar(unsafe=True)  # the host is an address, which browsers take too
    jar.update_cookies({"auth": site.api.token or "", "theme": "dark"})
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield session


async def test_a_request_arrives_as_it_was_sent(service: str, browser: Any) -> None:
    url = URL(f"{service}/a%2Fb//c?x=%20&y", encoded=True)
    headers = {"X-Own": "1", "Connection": "keep-alive, X-Mine", "X-Mine": "2"}

    async with browser.put(url, data=io.BytesIO(b"x" * 5_000_000), headers=headers) as answer:
        told = await answer.json(content_type=None)
        cookies = answer.headers.getall("Set-Cookie")
        status, reason = answer.status, answer.reason

    assert (status, reason) == (207, "As You Like")
    assert (told["method"], told["bytes"]) == ("PUT", 5_000_000)
    assert str(url).endswith(told["path"])
    assert told["path"].endswith("/a%2Fb//c?x=%20&y")
    assert told["headers"]["Cookie"] == "theme=dark"
    assert told["headers"]["X-Own"] == "1"
    assert "X-Mine" not in told["headers"]
    assert told["headers"]["Host"] == url.authority
    assert told["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert [one.split(";")[0] for one in cookies] == ["own=kept"]


async def test_the_service_does_not_see_the_users_token(site: Site, service: str) -> None:
    url, headers = f"{service}/", {"Authorization": f"Bearer {site.api.token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        told = await answer.json(content_type=None)

    assert answer.status == 207
    assert "Authorization" not in told["headers"]


async def test_an_answer_comes_as_it_is_made(service: str, browser: Any) -> None:
    async with browser.get(f"{service}/trickle") as answer:
        first = await answer.content.readexactly(5)
        async with browser.get(f"{service}/go"):
            pass
        rest = await answer.content.read()

    assert (first, rest) == (b"first", b"second")


async def test_a_websocket_with_its_protocol_and_its_close_code(service: str, browser: Any) -> None:
    async with browser.ws_connect(f"{service}/echo", protocols=["one", "two"]) as socket:
        await socket.send_str("text")
        text = await socket.receive_str(timeout=60)
        await socket.send_bytes(b"\0" * 100_000)
        data = await socket.receive_bytes(timeout=60)
        await socket.send_str("close")
        await socket.receive(timeout=60)

    assert socket.protocol == "two"
    assert (text, len(data)) == ("text", 100_000)
    assert socket.close_code == 4001


async def test_who_does_not_get_through(site: Site, service: str, browser: Any) -> None:
    name = "stranger-at-the-proxy"
    admin = site.master.login("admin")
    body = {"user": {"username": name, "active": True}, "password": PASSWORD}
    admin.call("POST", "/api/v1/users", body)
    stranger = site.master.login(name)

    async def ask(cookie: str | None, **headers: str) -> aiohttp.ClientResponse:
        cookies = {} if cookie is None else {"auth": cookie}
        async with (
            aiohttp.ClientSession(cookies=cookies) as session,
            session.get(f"{service}/", headers=headers, allow_redirects=False) as answer,
        ):
            return answer

    assert (await ask(None)).status == 401
    expired = await ask("nonsense")
    assert expired.status == 303
    assert expired.headers["Location"].startswith("/det/login?redirect=%2Fproxy%2F")
    assert (await ask(stranger.token)).status == 404
    assert (await ask(admin.token)).status == 207
    assert (await ask(site.api.token, Origin="http://elsewhere.example")).status == 403
    assert (await ask(site.api.token, Origin=site.master.url)).status == 207


async def test_services_that_are_not_there(site: Site, service: str, browser: Any) -> None:
    status, answer = site.api.send("GET", "/proxy/no-such-task/")
    unnamed, _ = site.api.send("GET", f"{service.removeprefix(site.master.url)}:1/")

    assert (status, answer) == (404, {"message": "service not found: no-such-task"})
    assert unnamed == 404
