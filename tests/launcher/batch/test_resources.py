"""The table of the contract, section 4.1 and 4.2: what a job needs, and which options ask for it."""

from __future__ import annotations

import pytest

from shipway_launcher.batch.resources import lay_out
from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Resources
from shipway_launcher.slurm.version import SlurmVersion


def options(resources: Resources, **more: object) -> str:
    chosen = lay_out(resources, **more).options  # type: ignore[arg-type]
    return " ".join(f"--{name}={value}" for name, value in chosen)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param(
            Resources(per_node=1, gpus_total=4),
            "--gpus=4 --nodes=1-4 --ntasks-per-node=1",
            id="gpus-anywhere",
        ),
        pytest.param(
            Resources(per_node=1, gpus_total=4, gpus_per_instance=2),
            "--gpus=4 --nodes=1-4 --ntasks-per-node=1 --gpus-per-task=2",
            id="gpus-anywhere-in-parts",
        ),
        pytest.param(
            Resources(nodes=2, gpus_per_node=2),
            "--nodes=2 --ntasks=2 --gres=gpu:2",
            id="gres",
        ),
        pytest.param(Resources(nodes=3), "--nodes=3 --ntasks=3", id="nodes-only"),
        pytest.param(
            Resources(nodes=2, cores_per_node=4, cores_per_instance=4),
            "--nodes=2 --ntasks=2 --cpus-per-task=4",
            id="cpus-with-slots-per-node",
        ),
        pytest.param(
            Resources(nodes=2, cores_per_node=1), "--nodes=2 --ntasks=2", id="cpus-one-per-node"
        ),
        pytest.param(
            Resources(nodes=1, gpus_total=4), "--nodes=1 --ntasks=1 --gpus=4", id="command-gpus"
        ),
        pytest.param(
            Resources(nodes=1, gpus_total=4, gpus_per_instance=2),
            "--nodes=1 --ntasks=1 --gpus=4",
            id="command-gpus-in-parts",
        ),
    ],
)
def test_the_table(resources: Resources, expected: str) -> None:
    assert options(resources) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (
            Resources(per_node=1, gpus_total=4, gpus_per_instance=2),
            "--gpus=tesla:4 --nodes=1-4 --ntasks-per-node=1 --gpus-per-task=tesla:2",
        ),
        (Resources(nodes=2, gpus_per_node=2), "--nodes=2 --ntasks=2 --gres=gpu:tesla:2"),
        (Resources(nodes=1, gpus_total=3), "--nodes=1 --ntasks=1 --gpus=tesla:3"),
    ],
)
def test_the_type_of_gpu_is_named(resources: Resources, expected: str) -> None:
    assert options(resources, gpu_type="tesla") == expected


@pytest.mark.parametrize(("patch", "is_left_out"), [(4, False), (5, True), (8, True), (9, False)])
def test_the_releases_with_bug_15857_get_no_task_per_node(patch: int, is_left_out: bool) -> None:
    text = options(Resources(per_node=1, gpus_total=8), version=SlurmVersion(22, 5, patch))
    assert ("--ntasks-per-node" not in text) is is_left_out


def test_the_range_ends_where_the_partition_does() -> None:
    wanted = Resources(per_node=1, gpus_total=8)
    assert "--nodes=1-4 " in options(wanted, max_nodes=4)
    assert "--nodes=1-8 " in options(wanted, max_nodes=100)
    assert "--nodes=5 " in options(Resources(nodes=5), max_nodes=4), "a fixed number stays"


def test_parts_that_do_not_add_up_are_rounded_up_and_that_is_said() -> None:
    layout = lay_out(Resources(per_node=1, gpus_total=5, gpus_per_instance=2))
    assert dict(layout.options)["gpus"] == "6"
    assert "5 GPUs cannot be shared out in parts of 2" in layout.notes[0]


@pytest.mark.parametrize("resources", [Resources(), Resources(per_node=1), Resources(gpus_total=1)])
def test_what_makes_no_sense_is_refused(resources: Resources) -> None:
    with pytest.raises(WrongRequest, match="resourceRequirements"):
        lay_out(resources)
