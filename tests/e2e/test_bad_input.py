"""Bad input and missing neighbours: a clear error each time, and nothing is lost."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import Site, SlurmSite
from tests.e2e.tasks import fetch_command, fetch_log, wait_for_end, wait_for_log, wait_for_state
from tests.lab.processes import wait_until
from tests.lab.shipway import Api

SLURM = "com.cray.analytics.capsules.carriers.hpc.slurm"
MIB = 1024 * 1024


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of a small job; *changes* go into its launch parameters."""
    parameters = {
        "mode": "batch",
        "environment": {
            "DET_TASK_ID": "t",
            "DET_ALLOCATION_ID": "t.1",
            "DET_SESSION_TOKEN": "none",
            "DET_MASTER": "http://127.0.0.1:1",
        },
        "configuration": {"queue": "gpu", "workingDir": "/var/tmp"},
        "arguments": ["/bin/true"],
        "custom": {"Archives": [], "slurmArgs": None, "pbsArgs": None},
        "images": {"default": ""},
        "data": [],
        **changes,
    }
    payload = {
        "name": "ai_test",
        "id": "com.cray.analytics.capsules.generic.container",
        "version": "latest",
        "carriers": [f"{SLURM}.SandboxOverSlurm"],
        "launchParameters": parameters,
        "resourceRequirements": {"instances": {"nodes": 1}, "cores": {"per-node": 1}},
    }
    return {"manifestVersion": "v1", "clientMetadata": {"name": "det"}, "payloads": [payload]}


def launch(site: SlurmSite, dispatch_id: str, body: Any) -> tuple[int, Any]:
    """Send a launch to the launcher, for the user that it runs as."""
    user = site.slurm.run(["id", "-un"]).stdout.strip()
    query = f"impersonate={user}&dispatchId={dispatch_id}"
    return site.launcher.api().send("PUT", f"/launch?{query}", body)


def send_endless_body(url: str, path: str, *, verb: str, token: str, mib: int) -> tuple[int, str]:
    """Send a body of *mib* MiB; the server may answer before it has read all of it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.putrequest(verb, path)
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(mib * MIB))
    connection.endheaders()
    try:
        for _ in range(mib):
            connection.send(b" " * MIB)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has heard enough
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_pool_that_does_not_exist_is_named(site: Site) -> None:
    before = len(site.api.call("GET", "/api/v1/commands")["commands"])
    done = site.det.run(
        "cmd", "run", "--config", "resources.resource_pool=nosuch", "true", check=False
    )
    assert done.returncode == 1
    assert "nosuch" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert len(site.api.call("GET", "/api/v1/commands")["commands"]) == before


def test_more_slots_than_there_are_is_refused(site: Site) -> None:
    done = site.det.run("cmd", "run", "--config", "resources.slots=5", "true", check=False)
    assert done.returncode == 1
    assert "5" in done.stdout + done.stderr
    assert "slots" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("resources.slots=-1", id="a negative number of slots"),
        pytest.param("resources.slots=many", id="slots that are no number"),
        pytest.param("environment.image=[1,2]", id="an image that is no text"),
    ],
)
def test_a_wrong_value_names_its_key(site: Site, config: str) -> None:
    done = site.det.run("cmd", "run", "--config", config, "true", check=False)
    assert done.returncode == 1
    assert config.partition("=")[0].rpartition(".")[2] in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("token", ["wrong", "", "v2.public.made-up"])
def test_the_master_refuses_a_wrong_token(site: Site, token: str) -> None:
    status, answer = Api(site.master.url, token=token).send("GET", "/api/v1/agents")
    assert status == 401
    assert answer["error"]["code"] == 16


def test_the_master_refuses_a_call_without_a_token(site: Site) -> None:
    status, answer = Api(site.master.url).send("GET", "/api/v1/agents")
    assert (status, answer["error"]["error"]) == (401, "token missing")


@pytest.mark.parametrize("body", [b"{", b"no JSON", b"[1]", b'{"config": 5}', b"\xff\xfe"])
def test_the_master_refuses_a_body_that_is_no_json_or_of_the_wrong_type(
    site: Site, body: bytes
) -> None:
    status, answer = site.api.send("POST", "/api/v1/commands", body)
    assert status == 400
    assert answer["error"]["code"] == 3
    assert answer["error"]["error"]


def test_the_master_refuses_a_body_over_the_limit(site: Site) -> None:
    assert site.api.token is not None
    status, text = send_endless_body(
        site.master.url, "/api/v1/commands", verb="POST", token=site.api.token, mib=140
    )
    assert status in {413, 429}
    assert "large" in text or "limit" in text
    assert site.api.call("GET", "/api/v1/me")["user"]["username"] == "determined"


def test_an_unknown_call_is_unimplemented(site: Site) -> None:
    status, answer = site.api.send("GET", "/api/v1/no/such/thing")
    assert status == 501
    assert answer["error"]["code"] == 12


def test_a_partition_that_does_not_exist_is_named(slurm_site: SlurmSite) -> None:
    done = slurm_site.det.run(
        "cmd", "run", "--config", "resources.resource_pool=nosuch", "true", check=False
    )
    assert done.returncode == 1
    assert "nosuch" in done.stdout + done.stderr


def test_the_launcher_passes_on_what_sbatch_says(slurm_site: SlurmSite) -> None:
    body = manifest(configuration={"queue": "nosuch", "workingDir": "/var/tmp"})
    status, answer = launch(slurm_site, "nosuch-partition.1", body)
    assert status in {400, 500}
    assert "nosuch" in answer["detail"]
    running = slurm_site.launcher.api().call("GET", "/running?eventLimit=0")["data"]
    assert "nosuch-partition.1" not in {one["dispatchId"] for one in running}


@pytest.mark.parametrize("missing", ["payloads", "manifestVersion", "clientMetadata"])
def test_a_manifest_with_a_missing_key_is_refused(slurm_site: SlurmSite, missing: str) -> None:
    body = manifest()
    del body[missing]
    before = slurm_site.slurm.job_states()
    status, answer = launch(slurm_site, f"missing-{missing}.1", body)
    assert status == 400
    assert missing in answer["detail"]
    assert slurm_site.slurm.job_states().keys() <= before.keys()


def test_the_launcher_refuses_a_body_that_is_no_json(slurm_site: SlurmSite) -> None:
    status, answer = launch(slurm_site, "no-json.1", b"{nothing")
    assert status == 400
    assert answer["detail"]


def test_the_launcher_refuses_a_wrong_token(slurm_site: SlurmSite) -> None:
    api = Api(slurm_site.launcher.url, token="wrong")
    assert api.send("GET", "/running?eventLimit=0")[0] in {401, 403}
    assert api.send("PUT", "/launch?impersonate=", manifest())[0] in {401, 403}


def test_the_launcher_refuses_a_body_over_the_limit(slurm_site: SlurmSite) -> None:
    status, text = send_endless_body(
        slurm_site.launcher.url,
        "/launch?impersonate=",
        verb="PUT",
        token=slurm_site.launcher.token_file.read_text(),
        mib=300,
    )
    assert status == 400, "of what comes with 413 a Go master shows no word"
    assert "limits.body_mib" in text
    assert slurm_site.launcher.api().send("GET", "/info/version/server")[0] == 200


def test_a_command_waits_for_a_launcher_that_is_down_and_all_else_goes_on(
    slurm_site: SlurmSite,
) -> None:
    site = slurm_site
    site.launcher.stop()
    try:
        command_id = site.det.run(
            "cmd", "run", "--detach", "--config", "resources.resource_pool=gpu", "echo back again"
        ).stdout.strip()
        line = wait_for_log(site.api, command_id, "It is tried again")
        assert "launcher" in line
        assert "still" in site.det.run("cmd", "run", "echo still here").stdout
        pools = site.api.call("GET", "/api/v1/resource-pools")["resourcePools"]
        assert "gpu" in {pool["name"] for pool in pools}
    finally:
        site.launcher.start()
    wait_for_end(site.api, command_id)
    assert "back again" in fetch_log(site.api, command_id)


def test_a_controller_that_is_down_loses_no_job(slurm_site: SlurmSite, tmp_path: Path) -> None:
    site, slurm = slurm_site, slurm_site.slurm
    pool = ("--config", "resources.resource_pool=gpu")
    running = site.det.run(
        *("cmd", "run", "--detach", *pool, "--volume", f"{tmp_path}:{tmp_path}"),
        f"echo begun; until [ -e {tmp_path}/go ]; do sleep 0.1; done; echo done",
    ).stdout.strip()
    wait_for_log(site.api, running, "begun")
    wait_for_state(site.api, running, "STATE_RUNNING")
    slurm.stop_controller()
    try:
        refused = site.det.run("cmd", "run", "--detach", *pool, "true").stdout.strip()
        wait_for_end(site.api, refused, limit_s=60)
        assert "Unable to contact slurm controller" in "\n".join(fetch_log(site.api, refused))
        assert fetch_command(site.api, running)["state"] == "STATE_RUNNING"
    finally:
        slurm.restart_controller()
        (tmp_path / "go").touch()
    wait_for_log(site.api, running, "done")
    wait_for_end(site.api, running)
    assert fetch_command(site.api, running)["exitStatus"].startswith("success")
    wait_until(
        lambda: site.launcher.api().send("GET", "/running?eventLimit=0")[0] == 200,
        "the launcher answers",
        limit_s=60,
    )
