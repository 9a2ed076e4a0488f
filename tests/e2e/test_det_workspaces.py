"""The stock `det` command about workspaces, projects and the pools that are kept for workspaces."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_command

STEPS = {
    "workspace create zoo --default-aux-pool docker": "| docker",
    "workspace create Zoo": "already exists",
    "workspace list": "zoo",
    "workspace list --sort-by name --order-by desc --json": '"name": "zoo"',
    "workspace describe zoo": "docker",
    "workspace list-pools zoo": "docker",
    "workspace list-members zoo": "Role Name",
    "workspace edit zoo --agent-uid 1 --agent-user one": "only admin",
    "workspace edit zoo --name park --default-aux-pool default": "| default",
    'workspace edit park --checkpoint-storage-config {"type":"s3","bucket":"b","secret_key":"s"}': (
        "'secret_key': '********'"
    ),
    'workspace edit park --checkpoint-storage-config {"type":"tape"}': "there is no type 'tape'",
    "workspace bindings list park": "Kubernetes",
    "workspace bindings set park --namespace n": "Kubernetes",
    "workspace bindings delete park": "Kubernetes",
    "workspace resource-quota set park 3": "Kubernetes",
    "project create park cats --description furry --key cat": "furry",
    "project create park Cats": "already exists",
    "project create park dogs": "dogs",
    "project list park": "CAT",
    "project list park --sort-by name --order-by desc --json": '"name": "dogs"',
    "workspace list-projects park": "cats",
    "project edit park cats --new_name tigers --description big --key tig": "TIG",
    "project describe park tigers": "Associated Experiments",
    "project list-experiments park tigers --all": "Archived",
    "project archive park tigers": "Successfully archived",
    "project edit park tigers --new_name cats": "archived",
    "project unarchive park tigers": "Successfully un-archived",
    "project delete park tigers --yes": "Successfully deleted project tigers",
    "workspace archive park": "Successfully archived",
    "project create park birds": "archived",
    "workspace unarchive park": "Successfully un-archived",
    "workspace delete Uncategorized --yes": "permission",
    "workspace delete park --yes": "Successfully deleted workspace park",
    "workspace describe park": "not found",
}
"""A command, and what is in its output."""

SCRIPT = """
from determined.common.experimental.resource_pool import ResourcePool
from determined.experimental import client

workspace = client.create_workspace("sdk")
assert client.get_workspace("sdk").id == workspace.id
assert "sdk" in [one.name for one in client.list_workspaces()]
project = workspace.create_project("p", "d")
project.set_name("q")
project.add_note("gone", "")
project.add_note("kept", "text")
project.remove_note("gone")
project.archive()
project.reload()
assert (project.name, project.description, project.archived) == ("q", "d", True)
assert project.notes == [{"name": "kept", "contents": "text"}], project.notes
project.unarchive()
assert [one.id for one in workspace.list_projects()] == [workspace.get_project("q").id]
assert project.list_experiments() == []
pool = next(one for one in workspace.list_pools() if one.name == "docker")
pool.add_bindings(["sdk"])
assert len(pool.list_workspaces()) == 1
pool.replace_bindings(["Uncategorized"])
assert "docker" not in [one.name for one in workspace.list_pools()]
pool.remove_bindings(["Uncategorized"])
assert pool.list_workspaces() == []
workspace.delete_project("q")
client.delete_workspace("sdk")
print("done")
"""
"""By the stock SDK."""


def say(line: str) -> tuple[str, ...]:
    """Cut the line of a command at its spaces."""
    return tuple(line.split(" "))


def test_each_command_about_workspaces_and_projects(site: Site) -> None:
    results = site.det.run_several(*map(say, STEPS))

    for (step, expected), (_, output) in zip(STEPS.items(), results, strict=True):
        assert expected in output, step


def test_policies(site: Site, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("constraints: {resources: {max_slots: 1}}\n")
    run = ("cmd", "run", "--detach", "-w", "limited", "--config", "resources.slots=2", "true")
    steps = (
        say("workspace create limited"),
        say(f"config-policies set tasks {policy} -w limited"),
        say("config-policies describe tasks -w limited"),
        run,
        say("config-policies delete tasks -w limited"),
        say(f"config-policies set experiment {policy}"),
        say("config-policies describe experiment --json"),
        say("config-policies delete experiment"),
        say("config-policies describe experiment"),
        say("workspace delete limited --yes"),
    )

    results = site.admin.run_several(*steps)
    _, _, described, refused, _, _, as_json, deleted, nothing, _ = (output for _, output in results)

    assert "max_slots: 1" in described
    assert "2 slots are more than the 1 that a policy allows" in refused
    assert '"max_slots": 1' in as_json
    assert "Successfully deleted global EXPERIMENT" in deleted
    assert nothing.strip() == "{}"


def test_pools_of_workspaces_and_tasks_in_them(site: Site) -> None:
    run = ("cmd", "run", "--detach", "--config", "resources.slots=0")
    steps = (
        say("workspace create kept --agent-uid 0 --agent-user root --agent-gid 0"),
        say("rp bindings add docker kept"),
        say("rp bindings list-workspaces docker"),
        (*run, "-w", "Uncategorized", "--config", "resources.resource_pool=docker", "true"),
        say("rp bindings replace docker Uncategorized"),
        say("rp bindings list-workspaces docker"),
        say("rp bindings add default kept"),
        say("rp bindings remove docker Uncategorized"),
        (*run, "-w", "kept", "echo made it"),
        say("workspace archive kept"),
        (*run, "-w", "kept", "echo too late"),
        say("workspace delete kept --yes"),
    )

    results = site.admin.run_several(*steps)
    created, _, bound, refused, _, replaced, default, _, launched, _, late, deleted = (
        output for _, output in results
    )

    assert "root" in created
    assert "kept" in bound
    assert "resource pool docker is bound to other workspaces" in refused
    assert "Uncategorized" in replaced
    assert "default resource pool default cannot be bound" in default
    assert fetch_command(site.api, launched.strip())["resourcePool"] == "default"
    assert "archived" in late
    assert "Successfully deleted" in deleted


def test_the_sdk(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    assert site.admin.run_python(script).stdout.endswith("done\n")
