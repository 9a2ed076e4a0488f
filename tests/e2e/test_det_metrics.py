"""The stock harness reports metrics from outside the cluster; the stock SDK and `det` read them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Site

TRAIN = """
import json, sys
from determined import core
from determined.experimental import core_v2

name, storage, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = core_v2.Config(
    name=name,
    searcher={"name": "single", "metric": "acc", "smaller_is_better": False},
    hparams={"lr": 0.5},
    external_experiment_id=name,
    external_trial_id="one",
)
core_v2.init(
    config=config, checkpoint_storage=storage, tensorboard_mode=core.TensorboardMode.MANUAL
)
for step in range(first, last + 1):
    core_v2.train.report_training_metrics(steps_completed=step, metrics={"loss": 1 / step})
    if step % 2 == 0:
        metrics = {"acc": step / 8 if first == 1 else 0.25, "nan": float("nan")}
        core_v2.train.report_validation_metrics(steps_completed=step, metrics=metrics)
        core_v2.train.report_metrics("mine", steps_completed=step, metrics={"deep": {"er": [step]}})
trial_id, experiment_id = core_v2.info.trial.trial_id, core_v2.info.trial.experiment_id
core_v2.close()
print(json.dumps([trial_id, experiment_id]))
"""

READ = """
import json, sys
from determined.experimental import client

trial = client.get_trial(int(sys.argv[1]))

def steps(reports):
    return [(one.trial_run_id, one.steps_completed) for one in reports]

print(json.dumps({
    "training": steps(trial.iter_metrics("training")),
    "validation": [one.metrics["acc"] for one in trial.iter_metrics("validation")],
    "mine": [one.metrics for one in trial.iter_metrics("mine")],
    "all": len(list(trial.iter_metrics(""))),
    "summary": trial.summary_metrics,
}))
"""


def train(site: Site, folder: Path, name: str, first: int, last: int) -> tuple[int, int]:
    """Run the user's program; return the ids of trial and experiment."""
    script = folder / "train.py"
    script.write_text(TRAIN)
    arguments = (name, str(folder / "storage"), str(first), str(last))
    done = site.det.run_python(script, *arguments)
    trial_id, experiment_id = json.loads(done.stdout.splitlines()[-1])
    return trial_id, experiment_id


def read(site: Site, folder: Path, trial_id: int) -> dict[str, Any]:
    """Read what the SDK tells of a trial."""
    script = folder / "read.py"
    script.write_text(READ)
    found = site.det.run_python(script, str(trial_id)).stdout
    answer: dict[str, Any] = json.loads(found.splitlines()[-1])
    return answer


def test_a_second_run_goes_over_the_steps_again(site: Site, tmp_path: Path) -> None:
    name = f"metrics-{uuid.uuid4().hex[:8]}"
    trial_id, experiment_id = train(site, tmp_path, name, 1, 6)
    assert train(site, tmp_path, name, 4, 5) == (trial_id, experiment_id)

    found = read(site, tmp_path, trial_id)
    described = site.det.run("trial", "describe", str(trial_id), "--metrics", "--csv").stdout
    experiment = site.det.run("e", "describe", str(experiment_id), "--metrics", "--csv").stdout

    assert found["training"] == [[1, 1], [1, 2], [1, 3], [2, 4], [2, 5]]
    assert found["validation"] == [0.25, 0.25]
    assert found["mine"] == [{"deep": {"er": [2]}}, {"deep": {"er": [4]}}]
    assert found["all"] == 9
    summary = found["summary"]
    assert summary["avg_metrics"]["loss"]["count"] == 5
    assert summary["validation_metrics"]["acc"] == {
        "type": "number", "count": 2, "min": 0.25, "max": 0.25, "sum": 0.5, "mean": 0.25,
        "last": 0.25,
    }  # fmt: skip
    assert summary["validation_metrics"]["nan"]["last"] == "NaN"
    assert '""loss"": 0.2' in described
    assert "Validation Metric: acc" in experiment
