"""Hostile requests about environments that there are, to a launcher that runs, judged by its description."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import pytest

from tests.lab.processes import wait_until
from tests.lab.shipway import Launcher
from tests.launcher.api.description import load_description, operations
from tests.launcher.api.hostile import BODIES, HEADERS, NAMES, QUERIES
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest

LOGS = [f"ai_cmd-9d0c7a3e-{name}" for name in ("output.log", "error.log", "job.sh")]
PARTS = [
    *("lines=1-5", "lines=-3", "bytes=-1", "bytes=0-0", "lines=1001-", "lines=-0", "bytes=--1"),
    *("lines=+1-2", "bytes=1_0-2_0", "lines=0x1-2", "bytes=1-2=3", "=1-2", "bytes=0-" + "9" * 400),
]
DATES = [
    *("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "0", "", "-1", '"', "W/"),
    *("Mon, 01 Jan 0001 00:00:00 +2300", "Wed, 25 Nov 2026 99:99:99 GMT", "x" * 1000),
]
CONDITIONS = ["If-Modified-Since", "If-Unmodified-Since", "If-Range", "If-Match", "If-None-Match"]


@pytest.fixture(scope="module")
def environments(rest: Rest) -> Iterator[list[str]]:
    """Two jobs: one has ended, one runs."""
    owner = ""
    for name, last in (("fuzz.1", "true"), ("fuzz.2", "exec sleep 600")):
        words = ["/bin/sh", "-c", f"seq 1000; {last}"]
        answer = rest("PUT", f"/launch?impersonate=&dispatchId={name}", make_manifest(words))
        owner = json.loads(answer.body)["launchingUser"]
    status = f"/monitoring/{owner}/environments/fuzz.1/status?refresh=true"
    wait_until(lambda: rest.json(status)["state"] == "COMPLETED", "it completes", limit_s=60)
    yield ["fuzz.1", "fuzz.2"]
    for name in ("fuzz.1", "fuzz.2"):
        rest("DELETE", f"/monitoring/{owner}/environments/{name}/management")


def _headers(chance: random.Random) -> dict[str, str]:
    """Choose headers; two times of three they are about parts and conditions."""
    if chance.random() < 0.3:
        return {**chance.choice(HEADERS)}
    headers = {chance.choice(CONDITIONS): chance.choice(DATES)}
    return headers | ({"Range": chance.choice(PARTS)} if chance.random() < 0.7 else {})


def _fill(path: str, known: Mapping[str, list[str]], chance: random.Random) -> str:
    for name, values in known.items():
        is_real = chance.random() < 0.9
        value = chance.choice(values) if is_real else quote(chance.choice(NAMES), safe="%")
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.mark.parametrize("seed", [1, 2])
def test_any_request(
    rest: Rest, launcher: Launcher, environments: list[str], user: str, seed: int
) -> None:
    chance = random.Random(seed)
    known = {
        "owner": [user],
        "environment": environments,
        "log": LOGS,
        "logger": ["root", "shipway_launcher"],
        "name": ["x"],
    }
    asks = [one for one in operations(load_description()) if one[0] in ("get", "head")]
    asks += [one for one in asks if "{log}" in one[1]] * 8
    changes = [one for one in operations(load_description()) if one[0] == "put"]
    for _ in range(400):
        method, path = chance.choice(asks if chance.random() < 0.8 else changes)
        filled = _fill(path, known, chance)
        query = quote(chance.choice(QUERIES), safe="?&=%") if chance.random() < 0.3 else ""
        body = chance.choice(BODIES) if method == "put" else None
        if any(name in filled for name in ("%7B", "x" * 1000)):
            continue  # no route, and no HTTP: test_hostile has them
        rest(method.upper(), filled + query, body, headers=_headers(chance))
    rest("PUT", "/admin/log-level", "INFO")
    for stage in ("running", "terminated"):
        rest("PUT", f"/{stage}/{user}/acls", {})
    assert "Traceback" not in launcher.log.read_text()
