"""The REST face without any Slurm: who may call, what is refused and how it is said."""

from __future__ import annotations

import getpass
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import yaml

from shipway_launcher.config import load_settings
from shipway_launcher.daemon import run_launcher
from shipway_launcher.errors import SetupError
from tests.launcher.api.calling import Caller, serving, settings_of
from tests.launcher.api.description import operations
from tests.launcher.manifests import make_manifest, make_query


async def test_the_version_is_bare_and_needs_no_token(call: Caller) -> None:
    answer = await call("GET", "/info/version/server", token="none")
    assert (answer.status, answer.body) == (200, b"3.3.7")
    assert (await call("GET", "/info/version/api")).body == b"3.3.7"
    assert (await call("GET", "/info/version/revision")).body.startswith(b"shipway ")


@pytest.mark.parametrize(
    "value", ["Bearer wrong", "Bearer ", "Bearer", "Basic eDp5", "", "Bearer día"]
)
async def test_a_wrong_token_is_told_apart_from_a_wrong_request(call: Caller, value: str) -> None:
    answer = await call("GET", "/running", headers={"Authorization": value})
    assert answer.status == 401
    assert "auth_file" in answer.detail
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "JSON object"),
        (b"{}", "manifestVersion: Field required; clientMetadata: Field required; payloads"),
        (make_manifest(carrier="Nope"), "none of"),
        (make_manifest(slurm_arguments=["--wrap=100% x"]), "slurm option --wrap is not configurable"),
    ],
)  # fmt: skip
async def test_a_wrong_manifest_is_explained(call: Caller, body: Any, detail: str) -> None:
    answer = await call("PUT", "/launch?impersonate=&dispatchId=a.1", body)
    if answer.status == 500:  # the options are looked at after Slurm's release
        assert "cannot run sbatch" in answer.detail
        return
    assert answer.status == 400
    assert detail in answer.detail
    assert json.loads((await call("GET", "/terminated")).body) == {"data": []}


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20])
async def test_a_body_over_the_limit_is_refused_with_the_limit(call: Caller, size: int) -> None:
    answer = await call("PUT", "/launch?impersonate=", b" " * size)
    assert answer.status == 400, "the master shows what is said with 400 and 500 alone"
    assert "1 MiB" in answer.detail
    assert "limits.body_mib" in answer.detail


async def test_a_body_of_unknown_length_is_limited_as_well(call: Caller) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 16)

    headers = {"Authorization": f"Bearer {call.serving.token}"}
    async with aiohttp.ClientSession() as session:
        url = f"{call.serving.url}/launch?impersonate="
        async with session.put(url, data=endless(), headers=headers) as answer:
            assert answer.status == 400
            assert "limits.body_mib" in (await answer.json(content_type=None))["detail"]


async def test_a_compressed_manifest_is_read(call: Caller) -> None:
    body = gzip.compress(json.dumps(make_manifest(carrier="Nope")).encode())
    answer = await call("PUT", "/launch?impersonate=", body, headers={"Content-Encoding": "gzip"})
    assert "none of" in answer.detail


@pytest.mark.parametrize("name", ["..", "a/b", "", "-x", "a b", "x" * 201, "a\nb", "día", "%2e%2e"])
async def test_an_id_that_cannot_name_a_folder_is_refused(call: Caller, name: str) -> None:
    path = f"/launch?impersonate=&dispatchId={quote(name, safe='')}"
    answer = await call("PUT", path, make_manifest())
    if name == "":
        assert "cannot run sbatch" in answer.detail, "an empty id is none, and one is made"
        return
    assert answer.status == 400
    assert "dispatchId" in answer.detail


async def test_nobody_else_can_be_acted_for_without_the_setting(call: Caller) -> None:
    answer = await call("PUT", "/launch?impersonate=nobody", make_manifest())
    assert answer.status == 400
    assert "set impersonation: sudo" in answer.detail


@pytest.mark.parametrize("query", ["Resources", "Queues"])
async def test_without_slurm_a_query_fails_clearly(call: Caller, query: str) -> None:
    answer = await call("PUT", "/launch?impersonate=", make_query(query))
    assert answer.status == 500
    assert "cannot run s" in answer.detail


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring/u/environments/none/status?refresh=true"),
        ("GET", "/monitoring/u/environments/none"),
        ("GET", "/monitoring/u/environments/none/logs/x"),
        ("DELETE", "/monitoring/u/environments/none/management"),
        ("DELETE", "/running/u/environments/none?force=true"),
        ("GET", "/monitoring/u/environments/%2e%2e%2fx/status"),
        ("GET", "/nowhere"),
    ],
)
async def test_what_is_not_there_is_404(call: Caller, method: str, path: str) -> None:
    answer = await call(method, path)
    assert answer.status == 404
    assert answer.detail


@pytest.mark.parametrize("query", ["eventLimit=x", "limit=-1", "offset=x", "reverse=maybe"])
async def test_a_parameter_that_is_none_is_named(call: Caller, query: str) -> None:
    answer = await call("GET", f"/running?{query}")
    assert answer.status == 400
    assert query.partition("=")[0] in answer.detail


async def test_two_launchers_on_one_port(call: Caller, tmp_path: Path) -> None:
    port = int(call.serving.url.rpartition(":")[2])
    settings = load_settings(
        flags={
            "port": port,
            "user_name": getpass.getuser(),
            "job_storage_root": str(tmp_path / "other"),
            "relay": {"enabled": False},
        }
    )
    with pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{port}"):
        async with run_launcher(settings):
            pass


OPERATIONS = """
GET /info/version/server
GET /info/version/api
GET /info/version/revision
GET /info/api
GET PUT /admin/log-level
GET PUT /admin/loggers
GET PUT /admin/loggers/{logger}
PUT /launch
PUT /launch/async
PUT HEAD DELETE /launch/credentials/{owner}/{name}
GET /monitoring/{owner}/environments/{environment}
GET /monitoring/{owner}/environments/{environment}/status
GET DELETE /monitoring/{owner}/environments/{environment}/management
GET DELETE /monitoring/{owner}/environments/{environment}/logs
GET DELETE /monitoring/{owner}/environments/{environment}/logs/{log}
GET /running
GET DELETE /running/{owner}
GET PUT /running/{owner}/acls
GET DELETE /running/{owner}/environments/{environment}
DELETE /running/{owner}/environments/{environment}/async
GET /running/{owner}/environments/{environment}/uis
GET /terminated
GET DELETE /terminated/{owner}
GET PUT /terminated/{owner}/acls
GET DELETE /terminated/{owner}/environments/{environment}
"""
"""All of the API 3.3.7."""


async def test_every_operation_of_the_api_is_described_and_answered(call: Caller) -> None:
    described = yaml.safe_load((await call("GET", "/info/api", token="none")).body)
    wanted = {
        (method.lower(), line.split()[-1])
        for line in OPERATIONS.split("\n")
        for method in line.split()[:-1]
    }
    assert set(operations(described)) == wanted
    assert described["info"]["version"] == "3.3.7"
    ids = [described["paths"][path][method]["operationId"] for method, path in wanted]
    assert len(set(ids)) == len(wanted)
    for method, path in wanted:
        body = b"{}" if method == "put" else None
        answer = await call(method.upper(), path.replace("{", "").replace("}", ""), body)
        assert answer.status not in (405, 501), (method, path)
        assert b": Not Found" not in answer.body, "there is a route"


async def test_other_methods_are_told_which_there_are(call: Caller) -> None:
    answer = await call("POST", "/launch")
    assert (answer.status, answer.headers["Allow"]) == (405, "PUT")
    assert answer.detail
    for method in ("POST", "PATCH", "OPTIONS", "TRACE"):
        assert (await call(method, "/running")).status == 405


async def test_access_lists_and_credentials_outlive_the_launcher(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    acls = {"read": {"allowed": ["bob"], "forbidden": []}}
    async with serving(settings) as call:
        assert (await call("PUT", "/running/alice/acls", acls)).status == 204
        assert (await call("PUT", "/launch/credentials/alice/x", b"secret")).status == 201
    kept = tmp_path / "root/acls.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    async with serving(settings) as call:
        found = json.loads((await call("GET", "/running/alice/acls")).body)
        assert found["read"] == acls["read"]
        assert (await call("HEAD", "/launch/credentials/alice/x")).status == 204
    kept.write_text("{")
    with pytest.raises(SetupError, match=r"acls\.json cannot be read"):
        async with serving(settings):
            pass
