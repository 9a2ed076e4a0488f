"""Hostile input on every route and RPC: refused, never a defect, and the master goes on.

All that the contract has is attacked, so what a service takes up falls under this by itself. The
long attack is `python -m tests.master.hostile`.
"""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc.aio
import pytest

from tests.lab.folders import new_folder, remove_folder
from tests.master.hostile.frames import Frame, call
from tests.master.hostile.http2 import converse, make_conversations
from tests.master.hostile.rest import Attack, send
from tests.master.hostile.target import Target, target_running

_ROUNDS: Final = 4
_MIB: Final = 1 << 20


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """Run a master to be attacked."""
    folder = new_folder("hostile")
    try:
        with target_running(folder) as running:
            yield running
    finally:
        remove_folder(folder)


async def test_every_rpc_over_http(target: Target) -> None:
    async with target.with_agent():
        await target.attack_rest(_ROUNDS, seed=1)

    target.require_sound()
    assert target.answers["200"] > target.answers["401"], "the attack gets no further than the door"


async def test_every_rpc_over_grpc(target: Target) -> None:
    async with target.with_agent():
        await target.attack_grpc(_ROUNDS, seed=2)

    target.require_sound()
    assert target.answers["OK"] > target.answers["UNAUTHENTICATED"]


async def test_large_messages_of_nobody_are_not_read(target: Target) -> None:
    before_mib = target.memory_mib
    frames = [Frame("GetMe", False, bytes(64 * _MIB), ()) for _ in range(6)]

    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.master.port}") as channel:
        answers = await asyncio.gather(*(call(channel, frame) for frame in frames))

    assert {code for code, _ in answers} == {"UNAUTHENTICATED"}
    assert target.memory_mib - before_mib < 60
    target.require_sound()


async def test_connections_that_are_no_grpc(target: Target) -> None:
    conversations = make_conversations(target.token, random.Random(3))
    async with asyncio.TaskGroup() as group:
        heard = {
            name: group.create_task(converse(target.master.port, said))
            for name, said in conversations.items()
        }

    assert not [name for name, answer in heard.items() if b"Traceback" in answer.result()]
    target.require_sound()


BESIDE: Final = (
    *("/", "//", "/agents", "/info", "/health", "/prom/det-state-metrics"),
    *("/det/../../etc/passwd", "/page/..%2f..%2f", "/page/%00", "/page/slot-problems", "/%ff%fe"),
    *("/proxy/", "/proxy/%00/", "/proxy/a:b/", "/proxy/..%2f/", "/resources/allocation/raw?a=%ff"),
    *("/resources/allocation/allocations-csv?timestamp_after=x", "/api", "/api/v1", "/api/v1/"),
    *("/api/v1//me", "/api/v1/me/..", "/api/v2/me", "/api/v1/%6de", "/debug/pprof", "/metrics"),
    *("/resources/allocation/aggregated?start_date=9999-99&end_date=", "*", "http://a/api/v1/me"),
)
"""Paths that no RPC has."""


async def test_routes_beside_the_api(target: Target) -> None:
    for number, path in enumerate(BESIDE * 3):
        verb = ("GET", "POST", "DELETE")[number % 3]
        upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" if number % 2 else ""
        lines = f"{verb} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{upgrade}"
        login = f"Authorization: Bearer {target.token}\r\nContent-Length: 2\r\n\r\n{{}}"
        attack = Attack("GetMe", (lines + login).encode())
        verdict = await send(target.master.port, attack)
        assert verdict is not None
        assert verdict.problem(attack) is None, f"{attack}: {verdict}"
    target.require_sound()


MANY: Final = list(range(1, 70_001))
EXTREMES: Final[Sequence[tuple[str, str, Any, int]]] = (
    ("POST", "/experiments-search", {"sort": "." * 60_000 + "last=asc"}, 200),
    ("POST", "/experiments-search", {"sort": "a." * 30_000 + "last=asc"}, 200),
    ("POST", "/experiments-search", {"filter": '{"a":' * 20_000}, 400),
    ("POST", "/projects/1/experiments/archive", {"filters": {"description": "x" * 60_000}}, 400),
    ("POST", "/tensorboards", {"experimentIds": MANY}, 404),
    ("POST", "/runs/kill", {"runIds": MANY}, 200),
    ("POST", "/generic-tasks", {"config": "a: " + "[" * 50_000}, 400),
    ("POST", "/users/setting", {"settings": [{"key": str(key)} for key in MANY]}, 400),
)
"""Requests that fit, and whose answer must not be long in coming or a defect."""


async def test_much_of_one_kind(target: Target) -> None:
    for verb, path, body, expected in EXTREMES:
        status, answer = await asyncio.to_thread(
            target.api.send, verb, f"/api/v1{path}", body, limit_s=100
        )
        assert status == expected, f"{path}: {str(answer)[:300]}"
    target.require_sound()


@pytest.mark.parametrize("is_known", [True, False], ids=["a user", "nobody"])
async def test_big_bodies_at_once_do_not_grow_the_master(target: Target, is_known: bool) -> None:
    """Of what unpacks to 2 GiB in all, only as much is held as a few large messages have."""
    bomb = gzip.compress(b" " * ((160 if is_known else 8) * _MIB), 1)
    head = (
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n"
    )
    if is_known:
        head = head.replace("auth/login", "commands")
        head += f"Authorization: Bearer {target.token}\r\n"
    attack = Attack("LaunchCommand", (head + "\r\n").encode() + bomb, may_be_cut=True)
    before_mib = target.memory_mib

    async with asyncio.TaskGroup() as group:
        sent = [group.create_task(send(target.master.port, attack)) for _ in range(12)]

    assert {verdict and verdict.status for verdict in (one.result() for one in sent)} <= {429, None}
    assert target.memory_mib - before_mib < (600 if is_known else 100)
    target.require_sound()
