"""Configurations by the stock command: refused with all mistakes, put together, hidden, changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site

pytestmark = pytest.mark.det

TEMPLATE = """
environment: {environment_variables: [A=template], registry_auth: {username: u, password: s3cr}}
bind_mounts: [{host_path: /tmp, container_path: /t}]
hyperparameters: {rate: 0.5, layers: 3}
labels: [low]
"""

CONFIG = """
name: mine
entrypoint: python3 train.py
searcher: {name: single, metric: loss}
resources: {slots_per_trial: 0}
environment: {environment_variables: [A=own]}
hyperparameters: {rate: 1e-5, on: yes}
labels: [high]
data: {day: 2030-01-31, secrets: {key: s3cr}}
checkpoint_storage: {type: s3, bucket: b, secret_key: s3cr}
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model definition."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "train.py").write_text("print('trained')\n")
    return folder


def write(folder: Path, name: str, text: str) -> str:
    """Write a file, and return its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def test_all_mistakes_are_printed(site: Site, tmp_path: Path, model: Path) -> None:
    config = write(
        tmp_path,
        "wrong.yaml",
        "resources: {slot_per_trial: 1}\nsearcher: {name: sinlge, metric: x}\nmax_restarts: -1\n",
    )
    done = site.det.run("experiment", "create", config, str(model), check=False)
    assert done.returncode != 0
    told = " ".join(done.stderr.split())
    for mistake in (
        "resources.slot_per_trial: unknown key; did you mean slots_per_trial?",
        "max_restarts: it must be at least 0, not -1",
        "searcher: there is no searcher 'sinlge'",
    ):
        assert mistake in told
    assert "Traceback" not in done.stderr


def test_a_template_below_and_secrets_hidden(site: Site, tmp_path: Path, model: Path) -> None:
    template = write(tmp_path, "template.yaml", TEMPLATE)
    config = write(tmp_path, "config.yaml", CONFIG)
    site.det.run("template", "create", "low", template)
    done = site.det.run(
        *("experiment", "create", config, str(model)), "--template", "low", "--paused"
    )
    experiment_id = done.stdout.split()[-1]
    read = read_config(site, experiment_id)
    assert read["environment"]["environment_variables"]["cpu"] == ["A=template", "A=own"]
    assert read["bind_mounts"][0]["container_path"] == "/t"
    assert read["hyperparameters"] == {
        "rate": {"type": "const", "val": 1e-5},
        "layers": {"type": "const", "val": 3},
        "on": {"type": "const", "val": True},
    }
    assert read["labels"] == ["high", "low"]
    assert read["data"]["day"] == "2030-01-31"
    assert read["environment"]["registry_auth"]["username"] == "u"
    assert "s3cr" not in json.dumps(read)

    wishes = {
        "project=x": "override config: project: it cannot be changed here",
        "max_restarts=-1": "max_restarts: it must be at least 0, not -1",
        "searcher.name=random": "searcher.name: it cannot be changed; it is single",
    }
    answers = site.det.run_several(
        ["experiment", "kill", experiment_id],
        ["experiment", "wait", experiment_id],
        *(["experiment", "continue", experiment_id, "--config", wish] for wish in wishes),
        ["template", "remove", "low"],
    )
    assert answers[-1][0] == 0
    for told, (status, output) in zip(wishes.values(), answers[2:-1], strict=True):
        assert status != 0
        assert told in " ".join(output.split())


def read_config(site: Site, experiment_id: str) -> dict[str, Any]:
    """Ask for the whole configuration."""
    answer: dict[str, Any] = site.api.call("GET", f"/api/v1/experiments/{experiment_id}")
    return dict(answer["experiment"]["config"])
