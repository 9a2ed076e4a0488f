"""The stock client finds, labels, moves, puts aside and deletes experiments, and reads trials."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Site

SCRIPT = """
import json, sys
from determined.experimental import client

experiment = client.get_experiment(int(sys.argv[1]))
experiment.add_label("from the sdk")
experiment.add_label("gone")
experiment.remove_label("gone")
experiment.reload()
project = client.get_workspace("Uncategorized").get_project("Uncategorized")
trials = experiment.list_trials()
print(json.dumps({
    "labels": sorted(experiment.labels),
    "state": experiment.state.name,
    "trials": [trial.id for trial in trials],
    "hparams": [trial.hparams for trial in trials],
    "listed": experiment.id in [one.id for one in client.list_experiments()],
    "of_project": experiment.id in [one.id for one in project.list_experiments()],
}))
"""


def create(site: Site, folder: Path, name: str) -> int:
    """Create an experiment that waits, with the stock client; return its id."""
    config = folder / "experiment.yaml"
    storage = {"type": "shared_fs", "host_path": str(folder)}
    config.write_text(
        json.dumps(
            {
                "name": name,
                "description": "to be found",
                "labels": ["first"],
                "entrypoint": "echo a line of the trial",
                "searcher": {"name": "single", "metric": "loss"},
                "hyperparameters": {"lr": 0.5},
                "checkpoint_storage": storage,
            }
        )
    )
    code = folder / "code"
    code.mkdir()
    (code / "model.py").write_text("")
    done = site.det.run("experiment", "create", str(config), str(code), "--paused")
    found = re.search(r"Created experiment (\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


def run_all(site: Site, *commands: str) -> list[str]:
    """Run commands one after the other, none of which may fail; return what each wrote."""
    answers = site.det.run_several(*[command.split() for command in commands])
    assert [status for status, _ in answers] == [0] * len(commands), answers
    return [output for _, output in answers]


def test_an_experiment_is_found_changed_and_deleted(site: Site, tmp_path: Path) -> None:
    name = f"found-{uuid.uuid4().hex[:8]}"
    ident = create(site, tmp_path, name)

    listed, described, trials, *_ = run_all(
        site,
        "experiment list",
        f"experiment describe {ident} --json",
        f"experiment list-trials {ident}",
        f"experiment label add {ident} second",
        f"experiment set log-retention {ident} --days 7",
    )
    script = tmp_path / "read.py"
    script.write_text(SCRIPT)
    told: dict[str, Any] = json.loads(site.det.run_python(script, str(ident)).stdout)

    assert name in listed
    [answer] = json.loads(described)
    shown = answer["experiment"]
    assert (shown["name"], shown["state"]) == (name, "STATE_PAUSED")
    assert '"lr": 0.5' in trials
    assert told["labels"] == ["first", "from the sdk", "second"]
    assert told["state"] == "PAUSED"
    assert told["hparams"] == [{"lr": 0.5}]
    assert (told["listed"], told["of_project"]) == (True, True)
    [trial] = told["trials"]

    trial_text, *_, archived, everything = run_all(
        site,
        f"trial describe {trial}",
        f"trial set log-retention {trial} --forever",
        f"experiment kill {ident}",
        f"trial logs {trial}",
        f"experiment archive {ident}",
        "experiment list",
        "experiment list --all",
    )
    assert str(ident) in trial_text
    assert name not in archived
    assert name in everything

    run_all(site, f"experiment unarchive {ident}", f"experiment delete {ident} --yes")


OUTSIDE = """
import sys
from determined import core
from determined.experimental import core_v2

core_v2.init(
    config=core_v2.Config(name="outside"),
    checkpoint_storage=sys.argv[1],
    tensorboard_mode=core.TensorboardMode.MANUAL,
)
trial_id = core_v2.info.trial.trial_id
print("a line from elsewhere")
core_v2.close()
print(trial_id)
"""


def test_what_a_trial_prints_that_runs_elsewhere_is_its_log(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "outside.py"
    script.write_text(OUTSIDE)
    trial = site.det.run_python(script, str(tmp_path)).stdout.split()[-1]

    followed = site.det.run("trial", "logs", "--follow", trial).stdout

    assert "|| a line from elsewhere" in followed
