"""TensorBoards with the stock `det`; a small server stands in the image as `tensorboard`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Site, SlurmSite
from tests.e2e.outside import PYTHON
from tests.e2e.tasks import wait_for_end, wait_for_log, wait_for_state
from tests.lab.s3 import S3
from tests.lab.shipway import Api

_PATH = f"PATH={Path(__file__).parent / 'payloads/bin'}:{os.environ['PATH']}"


def _make_experiment(api: Api, storage: dict[str, Any], *, variables: list[str]) -> int:
    """Make an experiment of which nothing runs."""
    config = {
        "name": "boarded",
        "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
        "checkpoint_storage": storage,
        "environment": {"environment_variables": variables},
    }
    body = {"config": yaml.safe_dump(config), "unmanaged": True}
    experiment_id: int = api.call("POST", "/api/v1/experiments", body)["experiment"]["id"]
    return experiment_id


def _name_folder(api: Api, experiment_id: int) -> str:
    """Say where below its storage a trial of an experiment writes."""
    cluster_id = api.call("GET", "/info")["cluster_id"]
    return f"{cluster_id}/tensorboard/experiment/{experiment_id}/trial/1"


def _in_folder(folder: Path) -> dict[str, Any]:
    return {"type": "shared_fs", "host_path": str(folder), "storage_path": "ck"}


def test_a_tensorboard_is_started_opened_listed_and_killed(site: Site, tmp_path: Path) -> None:
    variables = [_PATH, f"DET_PYTHON_EXECUTABLE={PYTHON}"]
    storage = _in_folder(tmp_path)
    ids = [_make_experiment(site.api, storage, variables=variables) for _ in range(2)]
    folders = [tmp_path / "ck" / _name_folder(site.api, one) for one in ids]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "events.out.tfevents.1").write_bytes(b"x")
    started = site.det.run("tensorboard", "start", *map(str, ids), "--no-browser").stdout
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", started)
    assert found is not None
    board_id = found[0]

    page = site.api.send("GET", f"/proxy/{board_id}/")
    link = site.api.send("GET", f"/det/interactive/{board_id}/tensorboard/x/y/z")
    without_login, _ = Api(site.master.url).send("GET", f"/proxy/{board_id}/")
    answers = site.det.run_several(
        ["tensorboard", "list"],
        ["tensorboard", "set", "priority", board_id, "7"],
        ["tensorboard", "config", board_id],
        ["tensorboard", "kill", board_id],
    )
    wait_for_end(site.api, board_id)
    site.det.run("experiment", "delete-tb-files", str(ids[0]))

    files = "\n".join(f"exp-{one}/trial/1/events.out.tfevents.1" for one in ids)
    assert page == (200, files)
    assert link == page
    assert without_login == 401
    assert [status for status, _ in answers] == [0] * 4, answers
    listed, _, shown, _ = (text for _, text in answers)
    assert re.search(rf"{board_id}.*{ids[0]}.*{ids[1]}", listed)
    assert "priority: 7" in shown
    assert [folder.exists() for folder in folders] == [False, True]


def test_metrics_in_a_bucket_are_fetched(site: Site, s3: S3) -> None:
    storage = {**s3.make_bucket("boards"), "prefix": "deep/down"}
    variables = [_PATH, f"DET_PYTHON_EXECUTABLE={PYTHON}"]
    experiment = _make_experiment(site.api, storage, variables=variables)
    key = f"deep/down/{_name_folder(site.api, experiment)}/events.out.tfevents.1"
    s3.run_python("client.put_object(Bucket='boards', Key=sys.argv[1], Body=b'x')", key)
    body = {"experimentIds": [experiment], "config": {}}
    board_id = site.api.call("POST", "/api/v1/tensorboards", body)["tensorboard"]["id"]

    site.agent.wait_until(
        lambda: key in str(site.api.send("GET", f"/proxy/{board_id}/")[1]),
        "the file is there",
        limit_s=60,
    )
    site.api.call("POST", f"/api/v1/tensorboards/{board_id}/kill")
    wait_for_end(site.api, board_id)


def test_an_image_without_tensorboard_is_told(site: Site, tmp_path: Path) -> None:
    storage = _in_folder(tmp_path)
    experiment = _make_experiment(site.api, storage, variables=["PATH=/usr/bin:/bin"])
    body = {"experimentIds": [experiment], "config": {}}
    board_id = site.api.call("POST", "/api/v1/tensorboards", body)["tensorboard"]["id"]

    wait_for_log(site.api, board_id, "a TensorBoard needs the program tensorboard")
    wait_for_end(site.api, board_id)
    shown = site.api.call("GET", f"/api/v1/tensorboards/{board_id}")["tensorboard"]
    assert "127" in shown["exitStatus"]


@pytest.mark.slurm
def test_a_tensorboard_and_a_notebook_in_slurm_jobs(slurm_site: SlurmSite, tmp_path: Path) -> None:
    api = slurm_site.api
    experiment = _make_experiment(api, _in_folder(tmp_path), variables=[_PATH])
    (tmp_path / "ck" / _name_folder(api, experiment)).mkdir(parents=True)
    (tmp_path / "ck" / _name_folder(api, experiment) / "events").write_bytes(b"x")
    config = {"resources": {"slots": 0, "resource_pool": "gpu"}}
    board = api.call(
        "POST", "/api/v1/tensorboards", {"experimentIds": [experiment], "config": config}
    )["tensorboard"]
    variables = {"environment_variables": [_PATH]}
    notebook = api.call(
        "POST",
        "/api/v1/notebooks",
        {"config": {**config, "idle_timeout": "2s", "environment": variables}},
    )["notebook"]
    for one in (board, notebook):
        # The lab's nodes have names that nobody resolves; a task says by itself where it is reached.
        wait_for_state(api, one["id"], "STATE_RUNNING")
        where = f"/api/v1/allocations/{one['id']}.1/proxy_address"
        api.call("POST", where, {"proxyAddress": "127.0.0.1"})
        wait_for_log(api, one["id"], "is available")

    page = api.send("GET", f"/proxy/{board['id']}/")
    api.call("POST", f"/api/v1/tensorboards/{board['id']}/kill")
    wait_for_end(api, board["id"])
    wait_for_log(api, notebook["id"], "nobody used it for 2s")
    wait_for_end(api, notebook["id"])

    assert page == (200, f"exp-{experiment}/trial/1/events")
