"""Hostile input on every route: refused in the form of the API, and the launcher goes on."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.launcher.api.calling import Caller
from tests.launcher.api.description import load_description, operations
from tests.launcher.api.hostile import BODIES, HEADERS, NAMES, QUERIES
from tests.launcher.manifests import make_manifest, make_query


def cases(seed: int, count: int) -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """Make requests to every operation, a number of each."""
    chance = random.Random(seed)
    for method, path in operations(load_description()):
        for _ in range(count):
            filled = path
            for name in ("owner", "environment", "log", "logger", "name"):
                filled = filled.replace(f"{{{name}}}", quote(chance.choice(NAMES), safe="%"))
            body = chance.choice(BODIES) if method == "put" else b""
            query = quote(chance.choice(QUERIES), safe="?&=%")
            yield method.upper(), filled + query, body, chance.choice(HEADERS)


def manifests(seed: int, count: int) -> Iterator[Any]:
    """Make manifests and queries of which one part is something else."""
    chance = random.Random(seed)
    parts: list[Any] = [
        *(None, True, -1, 1 << 70, 1e308, "", "\ud800", "\udcff", "a\0b", "x" * 200_000, [], {}),
        *(
            [[]],
            {"": ""},
            {"\ud800": "\udfff"},
            [None],
            {"a": {"b": {"c": []}}},
            ["\n#SBATCH -n 9"],
        ),
    ]
    for _ in range(count):
        data = chance.choice(
            [make_manifest(archives=["AAAA"]), make_query("Queues"), make_query("Resources")]
        )
        data = json.loads(json.dumps(data))
        place: Any = data
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.85:
                place = place[key]
                continue
            place[key] = chance.choice(parts)
            break
        yield data


def blames_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return log records with a traceback."""
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_operation(call: Caller, caplog: pytest.LogCaptureFixture, seed: int) -> None:
    for method, path, body, headers in cases(seed, 12):
        async with asyncio.timeout(60):
            answer = await call(method, path, body if method == "PUT" else None, headers=headers)
        said = (
            f"{method} {path[:200]} {headers} {body[:80]!r}: {answer.status} {answer.body[:300]!r}"
        )
        assert answer.status < 500, said
        assert "X-Injected" not in answer.headers
        if answer.status >= 400 and method != "HEAD" and answer.kind != "text/plain":
            assert answer.detail, said  # text comes from below the API, where it is no HTTP
    assert not blames_us(caplog)
    await call("PUT", "/admin/log-level", "WARN")


@pytest.mark.parametrize("path", ["/launch", "/launch/async"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_manifests(
    call: Caller, caplog: pytest.LogCaptureFixture, seed: int, path: str
) -> None:
    for data in manifests(seed, 60):
        for body, kind in (
            (json.dumps(data).encode(), "application/json"),
            (yaml.safe_dump(data).encode("utf-8", "replace"), "application/yaml"),
        ):
            async with asyncio.timeout(60):
                answer = await call(
                    "PUT", f"{path}?impersonate=", body, headers={"Content-Type": kind}
                )
            if answer.status == 500:  # right, and there is no Slurm on this machine
                assert "cannot run s" in answer.detail, body[:2000]
            else:
                assert 400 <= answer.status < 500, (answer.status, body[:2000])
                assert answer.detail
    assert not blames_us(caplog)
