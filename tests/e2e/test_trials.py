"""Trials on agents by the stock client: through failures, stops and continuations to their ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site
from tests.e2e.experiments import (
    MODELS,
    create,
    fetch_experiment,
    fetch_steps,
    fetch_trials,
    wait_for_end,
    wait_for_line,
    wait_for_state,
    wait_for_trial,
    write_config,
)
from tests.e2e.tasks import fetch_log, fetch_task, states
from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import wait_until
from tests.lab.shipway import Agent, frozen


@dataclass(frozen=True)
class Trained:
    """An experiment whose trial crashed once and went on from its checkpoint."""

    id: int
    trial_id: int
    task_id: str
    folder: Path
    """Where its checkpoints and its code are."""
    output: str
    """What `det experiment create --follow` wrote."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name that trials may write into."""
    made = new_folder("trials")
    yield made
    remove_folder(made)


@pytest.fixture(scope="module")
def trained(site: Site) -> Iterator[Trained]:
    """Create an experiment with the stock client, and follow it to its end."""
    made = new_folder("trained")
    code = made / "code"
    code.mkdir()
    shutil.copy(MODELS / "paces.py", code)
    (code / "startup-hook.sh").write_text("export HOOKED=by-the-hook\n")
    hparams = {"steps": 4, "crash_at": 3, "profiled": True, "gated": [-1], "gates": str(made)}
    config = write_config(
        made,
        "python paces.py",
        hyperparameters=hparams,
        max_restarts=2,
        checkpoint_storage={
            "type": "shared_fs",
            "host_path": str(made / "checkpoints"),
            "save_trial_latest": 2,  # the stock client downloads none that is the only one left
        },
        **share(made),
    )
    output = made / "output"
    process = site.det.start(
        "experiment", "create", str(config), str(code), "--follow", output=output
    )
    try:
        yield watch(site, made, process)
    finally:
        process.kill()
        process.wait()
        remove_folder(made)


def share(folder: Path) -> dict[str, Any]:
    """Let trials see a folder under its own name."""
    return {"bind_mounts": [{"host_path": str(folder), "container_path": str(folder)}]}


def watch(site: Site, made: Path, process: subprocess.Popen[bytes]) -> Trained:
    """Let the trial go on when all was measured that must be, and wait until the client has ended."""
    output = made / "output"
    wait_until(
        lambda: "begins after step 2" in output.read_text(),
        "the second run",
        limit_s=60,
        logs=output.read_text,
    )
    experiment_id = int(output.read_text().partition("Created experiment ")[2].split()[0])
    trial = wait_for_trial(site.api, experiment_id)
    groups = f"/api/v1/trials/metrics/trial_metrics?trialIds={trial['id']}&group="
    wait_until(
        lambda: all(list(site.api.lines(groups + name)) for name in ("cpu", "memory")),
        "what the profiler measured",
        limit_s=60,
    )
    (made / "-1").touch()
    assert process.wait(60) == 0
    return Trained(experiment_id, int(trial["id"]), trial["taskId"], made, output.read_text())


def test_a_trial_that_crashed_goes_on_from_its_checkpoint(site: Site, trained: Trained) -> None:
    trial = fetch_trials(site.api, trained.id)[0]
    assert trial["state"] == "STATE_COMPLETED"
    assert int(trial["restarts"]) == 1
    assert fetch_steps(site.api, trained.trial_id) == [1, 2, 3, 4], "no gap and no double"
    assert fetch_steps(site.api, trained.trial_id, "validation") == [2, 4]
    for line in (
        "begins after step 0, hooked by by-the-hook",
        "crashes at step 3",
        "the trial is started again: it failed once, and max_restarts is 2",
        "begins after step 2, hooked by by-the-hook",
    ):
        assert trained.output.count(line) == 1, line
    experiment = fetch_experiment(site.api, trained.id)
    assert experiment["state"] == "STATE_COMPLETED"
    assert experiment["progress"] == 1


def test_the_stock_client_reads_an_experiment_that_ended(site: Site, trained: Trained) -> None:
    into = trained.folder / "got"
    (into / "code").mkdir(parents=True)
    answers = site.det.run_several(
        ["experiment", "logs", str(trained.id)],
        ["trial", "describe", str(trained.trial_id), "--metrics"],
        ["trial", "download", str(trained.trial_id), "--best", "-o", str(into)],
        ["experiment", "download-model-def", str(trained.id), "--output-dir", str(into / "code")],
        ["experiment", "wait", str(trained.id)],
        ["trial", "kill", str(trained.trial_id)],
    )
    assert [status for status, _ in answers] == [0] * len(answers), answers
    logs, described, *_ = (text for _, text in answers)
    assert "begins after step 2" in logs
    assert '"val": 0.5' in described
    assert (into / "step").exists()
    [code] = (into / "code").iterdir()
    with tarfile.open(code) as tar:
        assert {"paces.py", "startup-hook.sh"} <= set(tar.getnames())


SDK = """
import json, sys
from determined.experimental import client

config, code, source, uuid = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
old = client.get_experiment(source)
best = old.top_checkpoint()
new = client.create_experiment(config, code)
ended = new.wait(interval=0.2)
[trial] = new.get_trials() if hasattr(new, "get_trials") else new.list_trials()
print(json.dumps({
    "ended": ended.name,
    "best": best.metadata["steps_completed"],
    "was given": best.uuid == uuid,
    "steps": [one.steps_completed for one in trial.iter_metrics("training")],
    "top": new.top_checkpoint().metadata["steps_completed"],
    "id": trial.id,
}))
"""


def test_the_sdk_begins_with_the_checkpoint_of_another_trial(
    site: Site, trained: Trained, tmp_path: Path
) -> None:
    searcher = {"name": "single", "metric": "val", "source_trial_id": trained.trial_id}
    config = write_config(
        tmp_path,
        "python paces.py",
        hyperparameters={"steps": 6},
        searcher=searcher,
        checkpoint_storage=storage_of(trained),
    )
    latest = fetch_trials(site.api, trained.id)[0]["latestValidation"]
    assert latest["totalBatches"] == 4
    script = tmp_path / "script.py"
    script.write_text(SDK)
    arguments = [str(config), str(MODELS), str(trained.id), ""]
    told = json.loads(site.det.run_python(script, *arguments).stdout.splitlines()[-1])
    assert told["ended"] == "COMPLETED"
    assert told["best"] == 4
    assert told["steps"] == [5, 6], "it began after the steps of the other one"
    assert told["top"] == 6
    trial = site.api.call("GET", f"/api/v1/trials/{told['id']}")["trial"]
    assert trial["warmStartCheckpointUuid"]


def storage_of(trained: Trained) -> dict[str, str]:
    """Return where the checkpoints of an experiment are."""
    return {"type": "shared_fs", "host_path": str(trained.folder / "checkpoints")}


def test_an_experiment_is_continued_and_deleted_with_its_files(
    site: Site, trained: Trained
) -> None:
    followed = site.det.run(
        *("experiment", "continue", str(trained.id), "-f"),
        *("--config", "hyperparameters.steps=6", "--config", "hyperparameters.profiled=false"),
    ).stdout
    assert "begins after step 4" in followed
    assert wait_for_end(site.api, trained.id)["state"] == "STATE_COMPLETED"
    assert fetch_steps(site.api, trained.trial_id) == [1, 2, 3, 4, 5, 6]
    answer = site.api.call("GET", f"/api/v1/experiments/{trained.id}/checkpoints")
    uuids = [one["uuid"] for one in answer["checkpoints"]]
    files = [path for uuid in uuids for path in trained.folder.rglob(f"{uuid}/step")]
    assert files

    site.det.run("experiment", "delete", str(trained.id), "--yes")
    wait_until(
        lambda: site.api.send("GET", f"/api/v1/experiments/{trained.id}")[0] == 404,
        "the experiment is gone",
        limit_s=60,
    )
    assert not [path for path in files if path.exists()]


# bad ends


def test_hyperparameters_that_a_trial_calls_invalid_complete_it(site: Site, folder: Path) -> None:
    hparams = {"invalid": True, "steps": 1}
    config = write_config(folder, "python paces.py", hyperparameters=hparams, max_restarts=3)
    experiment_id = create(site, config)
    wait_for_end(site.api, experiment_id)
    trial = fetch_trials(site.api, experiment_id)[0]
    assert trial["state"] == "STATE_COMPLETED"
    assert int(trial["restarts"]) == 0
    said = "the trial is complete: it reported that it cannot go on"
    assert said in fetch_log(site.api, trial["taskId"])


def test_an_image_without_the_harness_is_told(site: Site, folder: Path) -> None:
    python = sys.executable  # the environment of these tests has no package determined
    environment = {"environment_variables": [f"DET_PYTHON_EXECUTABLE={python}"]}
    experiment_id = create(site, write_config(folder, "true", environment=environment))
    said = wait_for_line(site.api, experiment_id, "a trial needs the Python package determined")
    assert python in said
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_ERROR"


def test_a_log_policy_ends_the_tries(site: Site, folder: Path) -> None:
    policy = {"name": "given up", "pattern": "it is hopel[e]ss", "action": "cancel_retries"}
    config = write_config(
        folder, "echo it is hopeless; exit 3", max_restarts=5, log_policies=[policy]
    )
    experiment_id = create(site, config)
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_ERROR"
    trial = fetch_trials(site.api, experiment_id)[0]
    assert len(fetch_task(site.api, trial["taskId"])["allocations"]) == 1
    assert trial["logPolicyMatched"] == "given up"
    log = "\n".join(fetch_log(site.api, trial["taskId"]))
    assert "the trial is not tried again, as a log policy says" in log


def test_a_trial_is_not_started_on_an_excluded_node_again_and_is_given_up(
    site: Site, folder: Path
) -> None:
    other = Agent(folder, site.master, agent_id="agent-b", slots=4)
    config = write_config(
        folder,
        'echo "node $DET_AGENT_ID"; echo ECC error; exit 3',
        max_restarts=1,
        log_policies=[{"pattern": "ECC error", "action": "exclude_node"}],
    )
    other.start()
    try:
        experiment_id = create(site, config)
        assert wait_for_end(site.api, experiment_id)["state"] == "STATE_ERROR"
    finally:
        other.stop()
    trial = fetch_trials(site.api, experiment_id)[0]
    assert int(trial["restarts"]) == 2
    log = fetch_log(site.api, trial["taskId"])
    nodes = [line.split()[1] for line in log if line.startswith("node ")]
    assert sorted(nodes) == ["agent-a", "agent-b"]
    assert "the trial has failed: it failed 2 times, and max_restarts is 1" in log
    assert "exit code 3" in fetch_task(site.api, trial["taskId"])["allocations"][0]["exitReason"]


# stops


def test_max_slots_holds_until_it_is_raised_and_a_kill_ends_all(site: Site, folder: Path) -> None:
    config = write_config(
        folder,
        "exec sleep 1000",
        searcher={"name": "random", "metric": "val", "max_trials": 2},
        hyperparameters={"x": {"type": "double", "minval": 0, "maxval": 1}},
        resources={"slots_per_trial": 1, "max_slots": 1},
    )
    experiment_id = create(site, config)
    tasks = [trial["taskId"] for trial in fetch_trials(site.api, experiment_id)]

    def are_in(*wanted: str) -> Callable[[], bool]:
        return lambda: (
            sorted(state for task in tasks for state in states(site.api, task)[:1]) == list(wanted)
        )

    wait_until(are_in("STATE_QUEUED", "STATE_RUNNING"), "one of them runs", limit_s=60)
    site.det.run("experiment", "set", "max-slots", str(experiment_id), "2")
    wait_until(are_in("STATE_RUNNING", "STATE_RUNNING"), "both run", limit_s=60)
    site.det.run("experiment", "kill", str(experiment_id))
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_CANCELED"
    ended = [trial["state"] for trial in fetch_trials(site.api, experiment_id)]
    assert ended == ["STATE_CANCELED"] * 2


# crashes of the master


def test_a_trial_outlives_a_master_that_is_killed_at_its_steps(site: Site, folder: Path) -> None:
    """Before its container is there, while it trains, and between its end and what follows."""
    hparams = {"steps": 4, "gated": [2, -1], "gates": str(folder)}
    config = write_config(folder, "python paces.py", hyperparameters=hparams, **share(folder))
    with frozen(site.agent.pid):
        experiment_id = create(site, config)
        site.master.kill()
        site.master.start()
    wait_for_line(site.api, experiment_id, "begins after step 0")
    site.master.kill()
    (folder / "2").touch()
    site.master.start()
    trial = wait_for_trial(site.api, experiment_id)
    wait_until(
        lambda: fetch_steps(site.api, int(trial["id"]), "validation") == [2, 4],
        "the last step is told",
        limit_s=60,
    )
    site.master.kill()
    seen = len(site.agent.log.read_text())
    (folder / "-1").touch()
    wait_until(
        lambda: "container ended" in site.agent.log.read_text()[seen:],
        "the end of its container",
        limit_s=60,
    )
    site.master.start()
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_COMPLETED"
    assert fetch_steps(site.api, int(trial["id"])) == [1, 2, 3, 4]
    assert len(fetch_task(site.api, trial["taskId"])["allocations"]) == 1


def test_a_cancelled_trial_leaves_with_a_checkpoint(site: Site, folder: Path) -> None:
    config = write_config(folder, "python paces.py", hyperparameters={"steps": 100_000})
    experiment_id = create(site, config)
    wait_for_line(site.api, experiment_id, "begins after step 0")
    site.det.run("experiment", "cancel", str(experiment_id))
    wait_for_state(site.api, experiment_id, "STATE_CANCELED")
    task_id = fetch_trials(site.api, experiment_id)[0]["taskId"]
    assert any(line.startswith("leaves after step") for line in fetch_log(site.api, task_id))
