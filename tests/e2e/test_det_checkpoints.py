"""The stock `det` command and SDK about checkpoints: looked at, fetched, and removed by tasks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site
from tests.e2e.experiments import train_with_a_pause, write_config_of_ranks
from tests.e2e.outside import (
    PYTHON,
    OutsideTrial,
    begin_outside_trial,
    fetch_checkpoint,
    wait_for_checkpoint,
)
from tests.e2e.tasks import fetch_log, wait_for_end
from tests.lab.folders import new_folder, remove_folder
from tests.lab.s3 import S3
from tests.lab.shipway import Api, frozen

FILES = {"metadata.json": b'{"steps_completed": 10}', "model/weights.bin": bytes(range(256)) * 40}


@pytest.fixture(scope="module")
def storage(site: Site) -> Iterator[Path]:
    """A folder that all nodes share, and the user's own machine."""
    folder = new_folder("checkpoints")
    (folder / "own").mkdir()
    yield folder / "own"
    remove_folder(folder)


@pytest.fixture(scope="module")
def trial(site: Site, storage: Path) -> OutsideTrial:
    """A trial whose checkpoints are in the folder."""
    return begin_outside_trial(site.api, make_config(storage))


def make_config(storage: Path, *, python: Path = PYTHON) -> dict[str, Any]:
    """Configure an experiment that stores in a folder, whose tasks run *python*."""
    place = {"host_path": str(storage.parent), "storage_path": storage.name}
    return {
        "name": "outside",
        "checkpoint_storage": {"type": "shared_fs", **place},
        "environment": {"environment_variables": [f"DET_PYTHON_EXECUTABLE={python}"]},
    }


def read_tree(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_checkpoint_is_fetched_whole(
    site: Site, trial: OutsideTrial, storage: Path, tmp_path: Path
) -> None:
    one = trial.save(storage, FILES)
    modes = ("direct", "master")

    answers = site.det.run_several(
        *(
            ["checkpoint", "download", one, "--mode", mode, "-o", str(tmp_path / mode)]
            for mode in modes
        )
    )

    assert [status for status, _ in answers] == [0, 0], answers
    assert [read_tree(tmp_path / mode) for mode in modes] == [FILES, FILES]


def test_checkpoints_are_described_and_listed(
    site: Site, trial: OutsideTrial, storage: Path
) -> None:
    first = trial.save(storage, FILES, steps=30)
    second = trial.save(storage, FILES, steps=40)
    trial.validate(30, loss=0.5)
    trial.validate(40, loss=0.25)

    answers = site.det.run_several(
        ["checkpoint", "describe", first],
        ["e", "list-checkpoints", str(trial.experiment_id), "--csv"],
        ["e", "list-checkpoints", str(trial.experiment_id), "--best", "1", "--csv"],
    )
    described, listed, best = (text for _, text in answers)

    assert first in described
    assert '"loss": 0.5' in described
    assert first in listed
    assert second in listed
    assert second in best
    assert first not in best


def test_the_best_ones_are_fetched(site: Site, storage: Path, tmp_path: Path) -> None:
    trial = begin_outside_trial(site.api, make_config(storage))
    for steps, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        trial.save(storage, {**FILES, "step": f"{steps}".encode()}, steps=steps)
        trial.validate(steps, loss=loss)

    site.det.run("e", "download", str(trial.experiment_id), "--top-n", "2", "-o", str(tmp_path))

    found = sorted(path.read_bytes() for path in tmp_path.glob("*-*/step"))
    assert found == [b"1", b"2"]


def test_files_are_removed_by_pattern_and_then_all_of_them(
    site: Site, trial: OutsideTrial, storage: Path
) -> None:
    one = trial.save(storage, FILES)
    kept = trial.save(storage, FILES)

    site.det.run("checkpoint", "rm", one, "--glob", "model/*.bin", "--yes")
    some = wait_for_checkpoint(site.api, one, "PARTIALLY_DELETED")
    left = read_tree(storage / one)
    site.det.run("checkpoint", "delete", one, "--yes")
    wait_for_checkpoint(site.api, one, "DELETED")

    assert some["resources"] == {"metadata.json": "23", "model/": "0"}
    assert left == {"metadata.json": FILES["metadata.json"]}
    assert not (storage / one).exists()
    assert read_tree(storage / kept) == FILES


def list_collections(api: Api) -> set[str]:
    """List the tasks that remove checkpoints and live."""
    summaries = api.call("GET", "/api/v1/tasks")["allocationIdToSummary"].values()
    return {one["taskId"] for one in summaries if one["name"].startswith("Checkpoint GC")}


SDK = """
import json, sys
from determined.experimental import client

one, best, trial_id, experiment_id = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
checkpoint = client.get_checkpoint(one)
checkpoint.add_metadata({"note": {"by": "me"}})
checkpoint.add_metadata({"gone": 1})
checkpoint.remove_metadata(["gone"])
checkpoint.reload()
trial = client.get_trial(trial_id)
order = {"sort_by": client.CheckpointSortBy.BATCH_NUMBER, "order_by": client.OrderBy.DESC}
print(json.dumps({
    "metadata": checkpoint.metadata,
    "best": trial.select_checkpoint(best=True).uuid,
    "latest": trial.select_checkpoint(latest=True).uuid,
    "steps": [c.metadata["steps_completed"] for c in trial.list_checkpoints(**order)],
    "top": client.get_experiment(experiment_id).top_checkpoint().uuid,
}))
"""


def test_the_sdk(site: Site, storage: Path, tmp_path: Path) -> None:
    trial = begin_outside_trial(site.api, make_config(storage))
    one, best = trial.save(storage, FILES, steps=1), trial.save(storage, FILES, steps=2)
    last = trial.save(storage, FILES, steps=3)
    for steps, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        trial.validate(steps, loss=loss)
    script = tmp_path / "script.py"
    script.write_text(SDK)

    found = site.det.run_python(script, one, best, str(trial.trial_id), str(trial.experiment_id))

    assert json.loads(found.stdout.splitlines()[-1]) == {
        "metadata": {"steps_completed": 1, "note": {"by": "me"}},
        "best": best,
        "latest": last,
        "steps": [3, 2, 1],
        "top": best,
    }


def test_a_policy_removes_what_it_does_not_keep(site: Site, storage: Path) -> None:
    trial = begin_outside_trial(site.api, make_config(storage))
    saved = [trial.save(storage, FILES, steps=steps) for steps in (1, 2, 3)]
    trial.validate(1, loss=0.5)
    policy = ("--save-experiment-best", "0", "--save-trial-best", "1", "--save-trial-latest", "1")

    site.det.run("e", "set", "gc-policy", str(trial.experiment_id), *policy, "--yes")
    wait_for_checkpoint(site.api, saved[1], "DELETED")

    states = [fetch_checkpoint(site.api, one)["state"] for one in saved]
    assert states == ["STATE_COMPLETED", "STATE_DELETED", "STATE_COMPLETED"]
    assert [(storage / one).exists() for one in saved] == [True, False, True]


def test_without_the_harness_nothing_is_said_to_be_gone(site: Site, storage: Path) -> None:
    trial = begin_outside_trial(site.api, make_config(storage, python=Path(sys.executable)))
    one = trial.save(storage, FILES)

    with frozen(site.agent.pid):  # so that the task cannot end before it is found
        before = list_collections(site.api)
        site.det.run("checkpoint", "delete", one, "--yes")
        [task_id] = list_collections(site.api) - before
    wait_for_end(site.api, task_id)

    assert any("nothing was removed" in line for line in fetch_log(site.api, task_id))
    assert fetch_checkpoint(site.api, one)["state"] == "STATE_COMPLETED"
    assert read_tree(storage / one) == FILES


UPLOAD = """
import json, sys
from determined.common import storage
config, folder, name = sys.argv[1:]
storage.build(json.loads(config), container_path=None).upload(folder, name)
"""


def test_checkpoints_in_a_bucket(site: Site, s3: S3, tmp_path: Path) -> None:
    place = {**s3.make_bucket("checkpoints"), "prefix": "runs"}
    trial = begin_outside_trial(site.api, make_config(tmp_path) | {"checkpoint_storage": place})
    one = trial.save(tmp_path / "local", FILES)
    script = tmp_path / "upload.py"
    script.write_text(UPLOAD)
    site.det.run_python(script, json.dumps(place), str(tmp_path / "local" / one), one)

    fetched = tmp_path / "fetched"
    site.det.run("checkpoint", "download", one, "--mode", "master", "-o", str(fetched))
    site.det.run("checkpoint", "delete", one, "--yes")
    wait_for_checkpoint(site.api, one, "DELETED")

    assert read_tree(fetched) == FILES
    listing = "print(client.list_objects_v2(Bucket='checkpoints')['KeyCount'])"
    assert s3.run_python(listing) == "0\n"


def test_a_trial_goes_on_from_its_checkpoint_in_a_bucket_where_the_last_one_stays(
    site: Site, s3: S3, tmp_path: Path
) -> None:
    config = write_config_of_ranks(tmp_path, checkpoint_storage=s3.make_bucket("trials"))

    experiment_id = train_with_a_pause(site, config, ranks=1)

    answer = site.api.call("GET", f"/api/v1/experiments/{experiment_id}/checkpoints")
    saved = sorted(answer["checkpoints"], key=lambda one: one["metadata"]["steps_completed"])
    wait_for_checkpoint(site.api, saved[0]["uuid"], "DELETED")
    listing = "print(*(one['Key'] for one in client.list_objects_v2(Bucket='trials')['Contents']))"
    left = [f"{saved[1]['uuid']}/{name}" for name in ("metadata.json", "step")]
    assert s3.run_python(listing).split() == left
