"""The stock `det` command and SDK about the model registry."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.outside import begin_outside_trial

SDK = """
import json, sys
from determined.experimental import client

model = client.create_model("by-sdk", "made", metadata={"a": 1})
model.add_metadata({"b": 2})
model.remove_metadata(["a"])
model.set_labels(["two", "three"])
model.set_description("told")
first = model.register_version(sys.argv[1])
first.set_name("best")
first.set_notes("# notes")
second = model.register_version(sys.argv[1])
second.delete()
model.archive()
model.unarchive()
found = client.get_model(model.model_id)
found.reload()
print(json.dumps({
    "metadata": found.metadata,
    "labels": sorted(found.labels),
    "description": found.description,
    "versions": [[one.model_version, one.name] for one in found.list_versions()],
    "newest": found.get_version().checkpoint.uuid,
    "listed": "by-sdk" in [one.name for one in client.list_models()],
    "all_labels": sorted(client.get_model_labels()),
}))
model.delete()
"""


def test_a_model_from_its_making_to_its_end(site: Site) -> None:
    trial = begin_outside_trial(site.api, {})
    one = trial.report({"weights.bin": b"123"}, steps=7)

    site.api.call("POST", "/api/v1/workspaces", {"name": "models-go-here"})

    answers = site.det.run_several(
        ["model", "create", "zoo", "--description", "all animals"],
        ["model", "register-version", "zoo", one],
        ["model", "register-version", "zoo", one, "--json"],
        ["model", "list-versions", "zoo"],
        ["model", "describe", "zoo", "--version", "1"],
        ["model", "move", "zoo", "-w", "models-go-here"],
        ["model", "list", "-w", "models-go-here", "--json"],
        ["checkpoint", "delete", one, "--yes"],
        ["model", "delete", "zoo"],
    )
    _, _, registered, versions, described, _, in_workspace, kept, _ = (text for _, text in answers)

    assert [status for status, _ in answers] == [0] * 7 + [1, 0], answers
    assert json.loads(registered)["modelVersion"]["version"] == 2
    assert len(re.findall(one, versions)) == 2
    assert "all animals" in described
    assert one in described
    assert [model["name"] for model in json.loads(in_workspace)] == ["zoo"]
    assert "is version 1 of the model 'zoo'" in kept
    assert site.api.call("GET", "/api/v1/models?name=zoo")["models"] == []


def test_the_sdk(site: Site, tmp_path: Path) -> None:
    trial = begin_outside_trial(site.api, {})
    one = trial.report({"weights.bin": b"123"})
    script = tmp_path / "script.py"
    script.write_text(SDK)

    found = site.det.run_python(script, one)

    assert json.loads(found.stdout.splitlines()[-1]) == {
        "metadata": {"b": 2},
        "labels": ["three", "two"],
        "description": "told",
        "versions": [[1, "best"]],
        "newest": one,
        "listed": True,
        "all_labels": ["three", "two"],
    }
