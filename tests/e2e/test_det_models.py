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

    site.det.run("model", "create", "zoo", "--description", "all animals")
    site.det.run("model", "register-version", "zoo", one)
    registered = json.loads(site.det.run("model", "register-version", "zoo", one, "--json").stdout)
    versions = site.det.run("model", "list-versions", "zoo").stdout
    described = site.det.run("model", "describe", "zoo", "--version", "1").stdout
    site.det.run("model", "move", "zoo", "-w", "models-go-here")
    in_workspace = site.det.run("model", "list", "-w", "models-go-here", "--json").stdout
    kept = site.det.run("checkpoint", "delete", one, "--yes", check=False)
    site.det.run("model", "delete", "zoo")

    assert registered["modelVersion"]["version"] == 2
    assert len(re.findall(one, versions)) == 2
    assert "all animals" in described
    assert one in described
    assert [model["name"] for model in json.loads(in_workspace)] == ["zoo"]
    assert kept.returncode == 1
    assert "is version 1 of the model 'zoo'" in kept.stdout + kept.stderr
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
