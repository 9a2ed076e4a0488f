"""The two files that the master reads, as its YAML reader sees them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from shipway_launcher.carriers.queues import render_queues
from shipway_launcher.carriers.resources import render_resources
from shipway_launcher.carriers.shelf import Query, QueryShelf
from shipway_launcher.errors import NotFound
from shipway_launcher.slurm.gres import Gpus
from shipway_launcher.slurm.rows import ClusterRows, NodeRow, PartitionRow
from tests.launcher.dispatches.test_outcome import make_row

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYS = {
    *("state", "name", "partition", "submitTime", "userName", "gpuSlots", "cpuSlots"),
    *("reasonCode", "reasonDesc"),
}


@pytest.mark.parametrize(
    "name",
    [
        *("yes", "on", "null", "~", "00123", "1e3", "- x", "a: b", "#x", "", "día", "😀", "\x07"),
        *("two\nlines", '"', "'", "\\", "a\tb", "\x7f\x85\u2028", "{", "*a", "&a", "%x", "@", "`"),
    ],
)
def test_names_arrive_whatever_they_are(name: str) -> None:
    found = yaml.safe_load(render_queues([make_row(name=name, partition=name, user=name)]))
    assert found == {"7": {**found["7"], "partition": name, "userName": name}}
    assert found["7"]["name"] == (name or "7")


def test_bytes_that_are_no_text_are_marked() -> None:
    found = yaml.safe_load(render_queues([make_row(name="a\udcffb")]))
    assert found["7"]["name"] == "a\ufffdb"


def test_each_job_has_all_keys_as_text() -> None:
    found = yaml.safe_load(render_queues([make_row("PENDING", reason="Resources", gpus=4, cpus=8)]))
    assert set(found["7"]) == KEYS
    assert all(isinstance(value, str) for value in found["7"].values())
    assert found["7"] == {
        **found["7"],
        "state": "PENDING",
        "gpuSlots": "4",
        "cpuSlots": "8",
        "submitTime": "2026-01-02T03:04:05+00:00",
        "reasonCode": "Resources",
        "reasonDesc": "The job is waiting for resources to become available",
    }


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("R", "RUNNING"),
        ("PD", "PENDING"),
        ("CG", "COMPLETING"),
        ("CF", "CONFIGURING"),
        ("S", "SUSPENDED"),
        ("FROBNICATING", "FROBNICATING"),
    ],
)
def test_a_job_is_called_running_or_pending_only_while_it_is(state: str, word: str) -> None:
    assert yaml.safe_load(render_queues([make_row(state)]))["7"]["state"] == word


def test_what_has_ended_is_not_in_the_queue() -> None:
    assert yaml.safe_load(render_queues([make_row("COMPLETED"), make_row("CA")])) == {}
    assert render_queues([]) == "{}\n"


def test_parts_of_arrays_are_jobs_of_their_own() -> None:
    rows = [make_row(shown_id=name) for name in ("12_[1-5%2]", "12_7", "5+0", "5+1")]
    assert list(yaml.safe_load(render_queues(rows))) == ["12_[1-5%2]", "12_7", "5+0", "5+1"]


def make_node(name: str, **changes: Any) -> NodeRow:
    node: dict[str, Any] = {
        "name": name,
        "partitions": ("p",),
        "address": "10.0.0.1",
        "is_in_service": True,
        "is_draining": False,
        "is_allocated": False,
        "cpus": 8,
        "cpus_in_use": 0,
        "gpus": Gpus(total=4, by_type={"a100": 4}),
        "gpus_in_use": Gpus(),
    }
    return NodeRow(**{**node, **changes})


def partition_of(*nodes: NodeRow, name: str = "p") -> dict[str, Any]:
    row = PartitionRow(name=name, is_default=True, total_nodes=len(nodes), max_nodes=None)
    found = yaml.safe_load(render_resources(ClusterRows(partitions=(row,), nodes=nodes)))
    return dict(found["partitions"][0])


def test_only_nodes_in_service_count() -> None:
    found = partition_of(
        make_node("n1", is_allocated=True, cpus_in_use=3, gpus_in_use=Gpus(total=1)),
        make_node("n2"),
        make_node("n3", is_in_service=False, gpus=Gpus(total=8, by_type={"h100": 8})),
    )
    assert found == {
        "partitionName": "p",
        "default": True,
        "totalNodes": 3,
        "totalAvailableNodes": 1,
        "totalAllocatedNodes": 1,
        "totalGpuSlots": 8,
        "totalAvailableGpuSlots": 7,
        "totalCpuSlots": 16,
        "totalAvailableCpuSlots": 13,
        "accelerator": "a100,h100",
    }


def test_a_partition_of_gpus_stays_one_while_all_its_nodes_are_down() -> None:
    found = partition_of(make_node("n1", is_in_service=False))
    assert (found["totalGpuSlots"], found["totalAvailableGpuSlots"]) == (4, 0)
    assert found["totalCpuSlots"] == 0


def test_types_of_gpus() -> None:
    assert partition_of(make_node("n1", gpus=Gpus(total=4)))["accelerator"] == "unconfigured"
    assert partition_of(make_node("n1", gpus=Gpus()))["accelerator"] == ""
    assert partition_of()["accelerator"] == ""


@pytest.mark.parametrize("name", ["yes", "123", "1e3", "on", "día"])
def test_names_that_yaml_could_take_for_something_else(name: str) -> None:
    node = make_node(name, partitions=(name,), address=name)
    row = PartitionRow(name=name, is_default=False, total_nodes=1, max_nodes=None)
    found = yaml.safe_load(render_resources(ClusterRows(partitions=(row,), nodes=(node,))))
    assert found["partitions"][0]["partitionName"] == name
    assert found["nodes"][0]["name"] == name
    assert found["nodes"][0]["partitions"] == [name]
    assert found["nodes"][0]["addresses"] == [name]


def test_a_cluster_without_anything() -> None:
    assert yaml.safe_load(render_resources(ClusterRows(partitions=(), nodes=()))) == {
        "partitions": [],
        "nodes": [],
    }


def make_query(number: int, **changes: Any) -> Query:
    query: dict[str, Any] = {
        "id": f"q{number}",
        "owner": "launcher",
        "name": "DAI-HPC-Queues",
        "payload": "DAI-HPC-Queues",
        "carrier": "SlurmQueue",
        "log_name": "slurm-queue-info",
        "text": "{}\n",
        "at": AT,
    }
    return Query(**{**query, **changes})


def test_answers_that_nobody_fetches_do_not_pile_up() -> None:
    shelf = QueryShelf()
    for number in range(1000):
        shelf.put(make_query(number))
    assert len(shelf.all()) == 256
    assert shelf.all()[-1].id == "q999"
    shelf.put(make_query(1, id="old", made_at=-10_000.0))
    shelf.put(make_query(2, id="new"))
    assert shelf.find("launcher", "old") is None
    assert shelf.find("someone", "new") is None
    shelf.remove("launcher", "new")
    with pytest.raises(NotFound):
        shelf.remove("launcher", "new")
