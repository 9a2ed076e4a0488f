"""TensorBoards with the stock `det`; a small server stands in the image as `tensorboard`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import yaml

from tests.e2e.conftest import Site
from tests.e2e.tasks import wait_for_end, wait_for_log
from tests.lab.shipway import Api

_PATH = f"PATH={Path(__file__).parent / 'payloads/bin'}:{os.environ['PATH']}"


def _make_experiment(api: Api, folder: Path, *, variables: list[str]) -> int:
    """Make an experiment of which nothing runs, with a file of metrics in *folder*."""
    config = {
        "name": "boarded",
        "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
        "checkpoint_storage": {"type": "shared_fs", "host_path": str(folder), "storage_path": "ck"},
        "environment": {"environment_variables": variables},
    }
    body = {"config": yaml.safe_dump(config), "unmanaged": True}
    made = api.call("POST", "/api/v1/experiments", body)["experiment"]
    cluster_id = api.call("GET", "/info")["cluster_id"]
    files = folder / f"ck/{cluster_id}/tensorboard/experiment/{made['id']}/trial/1"
    files.mkdir(parents=True)
    (files / "events.out.tfevents.1").write_bytes(b"x")
    experiment_id: int = made["id"]
    return experiment_id


def test_a_tensorboard_is_started_opened_listed_and_killed(site: Site, tmp_path: Path) -> None:
    ids = [_make_experiment(site.api, tmp_path, variables=[_PATH]) for _ in range(2)]
    started = site.det.run("tensorboard", "start", *map(str, ids), "--no-browser").stdout
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", started)
    assert found is not None
    board_id = found[0]

    page = site.api.send("GET", f"/proxy/{board_id}/")
    link = site.api.send("GET", f"/det/interactive/{board_id}/tensorboard/x/y/z")
    without_login, _ = Api(site.master.url).send("GET", f"/proxy/{board_id}/")
    listed = site.det.run("tensorboard", "list").stdout
    site.det.run("tensorboard", "set", "priority", board_id, "7")
    shown = site.det.run("tensorboard", "config", board_id).stdout
    site.det.run("tensorboard", "kill", board_id)
    wait_for_end(site.api, board_id)

    files = "\n".join(f"exp-{one}/trial/1/events.out.tfevents.1" for one in ids)
    assert page == (200, files)
    assert link == page
    assert without_login == 401
    assert re.search(rf"{board_id}.*{ids[0]}.*{ids[1]}", listed)
    assert "priority: 7" in shown


def test_an_image_without_tensorboard_is_told(site: Site, tmp_path: Path) -> None:
    experiment = _make_experiment(site.api, tmp_path, variables=["PATH=/usr/bin:/bin"])
    body = {"experimentIds": [experiment], "config": {}}
    board_id = site.api.call("POST", "/api/v1/tensorboards", body)["tensorboard"]["id"]

    wait_for_log(site.api, board_id, "a TensorBoard needs the program tensorboard")
    wait_for_end(site.api, board_id)
    shown = site.api.call("GET", f"/api/v1/tensorboards/{board_id}")["tensorboard"]
    assert "127" in shown["exitStatus"]
