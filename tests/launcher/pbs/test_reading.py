"""What is understood of PBS's answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shipway_launcher.commandline import Failure
from shipway_launcher.pbs.failures import (
    classify_failure,
    only_tells_of_ended_jobs,
    only_tells_of_missing_jobs,
)
from shipway_launcher.pbs.parse import parse_jobs, parse_submitted
from shipway_launcher.pbs.parse_cluster import parse_cluster
from shipway_launcher.pbs.states import read_exit, read_reason, read_state
from shipway_launcher.slurm.reasons import split_reason
from shipway_launcher.slurm.states import End, Phase

DATA = Path(__file__).with_name("data") / "pbs-2022.1"


def test_jobs_of_everybody_are_read() -> None:
    trial, other, array = parse_jobs((DATA / "qstat.json").read_text())
    assert (trial.id, trial.user, trial.partition) == ("2154.pbs", "alice", "gpuq")
    assert trial.state.phase is Phase.RUNNING
    assert trial.comment == "shipway:7.33b6.1"
    assert trial.nodes == "x3006c0s13b1n0,x3008c0s37b1n0"
    assert (trial.cpus, trial.gpus, trial.time_limit_s) == (4, 4, 86400)
    assert trial.submitted_at == datetime(2023, 11, 10, 9, 40, 15, tzinfo=UTC)
    assert (other.name, other.state.phase) == ("1e5x", Phase.WAITING), "old releases quote badly"
    assert split_reason(other.reason)[0] == "Resources"
    assert other.starts_at == datetime(2023, 11, 10, 21, 40, 15, tzinfo=UTC), "as it is expected"
    assert array.state.phase is Phase.RUNNING


def test_no_jobs_are_an_answer_and_nonsense_is_none() -> None:
    assert parse_jobs('{"timestamp":1,"pbs_version":"23.06.06","pbs_server":"pbs"}') == []
    for text in ("", "Job id  Name", "[1]"):
        with pytest.raises(ValueError, match="no JSON object"):
            parse_jobs(text)


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("12.pbs\n", "12.pbs"),
        ("Welcome to the cluster!\n12.pbs-1.example.org\n", "12.pbs-1.example.org"),
        ("", None),
        ("12.pbs\n13.pbs\n", None),
        ("12\n", None),
    ],
)
def test_the_id_is_found_in_what_qsub_prints(text: str, job_id: str | None) -> None:
    assert parse_submitted(text) == job_id


@pytest.mark.parametrize(
    ("letter", "substate", "status", "comment", "end"),
    [
        ("F", 92, 0, "", End.COMPLETED),
        ("F", 93, 3, "", End.FAILED),
        ("F", 91, 271, "", End.CANCELLED),
        ("F", 91, None, "Not Running: x", End.CANCELLED),
        ("F", 91, 271, "Job preempted by 7.pbs", End.PREEMPTED),
        ("F", 93, -29, "", End.TIMED_OUT),
        ("F", 93, -27, "", End.OUT_OF_MEMORY),
        ("F", 93, -1, "", End.COULD_NOT_START),
    ],
)
def test_how_a_job_ended(
    letter: str, substate: int, status: int | None, comment: str, end: End
) -> None:
    state = read_state(letter, substate=substate, exit_status=status, comment=comment)
    assert (state.phase, state.end) == (Phase.ENDED, end)


@pytest.mark.parametrize("letter", ["M", "Z", ""])
def test_a_state_that_nobody_knows_is_watched_on(letter: str) -> None:
    assert read_state(letter, substate=None, exit_status=None).phase is Phase.UNKNOWN


def test_exits_are_codes_or_signals() -> None:
    killed, failed = read_exit(256 + 9), read_exit(7)
    assert killed is not None
    assert (killed.code, killed.signal) == (0, 9)
    assert failed is not None
    assert (failed.code, failed.signal) == (7, 0)
    assert read_exit(-29) is None


@pytest.mark.parametrize(
    ("letter", "comment", "word"),
    [
        ("Q", "Not Running: Insufficient amount of resource: ngpus (R: 4 A: 0 T: 16)", "Resources"),
        ("Q", "Can Never Run: Insufficient amount of resource: ngpus", "BadConstraints"),
        ("Q", "Not Running: User has reached queue workq running job limit.", "QOSLimit"),
        ("Q", "Not Running: Job would conflict with reservation or top job", "Priority"),
        ("Q", "Not Running: Queue workq is not started", "PartitionInactive"),
        ("H", "Job held by alice on Fri Nov 10 09:40:15 2023", "JobHeld"),
        ("W", "", "BeginTime"),
        ("R", "Job run at Fri Nov 10 at 09:41 on (n1:ncpus=1)", "None"),
    ],
)
def test_why_a_job_waits(letter: str, comment: str, word: str) -> None:
    assert split_reason(read_reason(letter, comment))[0] == word


def test_virtual_nodes_are_counted_once_with_their_host() -> None:
    def node(host: str, gpus: int, **more: object) -> dict[str, object]:
        available = {"host": host, "ncpus": gpus * 2, "ngpus": gpus, "accel_type": "a100"}
        return {"state": "free", "Mom": f"{host}.x", "resources_available": available, **more}

    nodes = {
        "n1": {"state": "free", "resources_available": {"host": "n1", "ncpus": 0}},
        "n1[0]": node("n1", 2, resources_assigned={"ngpus": 1, "ncpus": 4}, jobs=["1.pbs/0"]),
        "n1[1]": node("n1", 2),
        "n2": node("n2", 4, state="down,offline", queue="gpuq"),
    }
    queues = {
        "workq": {"queue_type": "Execution", "enabled": "True", "started": "True"},
        "gpuq": {"queue_type": "Execution", "enabled": "True", "started": "True"},
        "route": {"queue_type": "Route", "enabled": "True", "started": "True"},
        "off": {"queue_type": "Execution", "enabled": "False", "started": "True"},
    }
    cluster = parse_cluster(
        json.dumps({"Queue": queues}),
        json.dumps({"Server": {"pbs": {"default_queue": "gpuq"}}}),
        json.dumps({"nodes": nodes}),
    )
    assert [(row.name, row.is_default, row.total_nodes) for row in cluster.partitions] == [
        ("workq", False, 1),
        ("gpuq", True, 2),
    ]
    first, second = cluster.nodes
    assert (first.name, first.gpus.total, first.gpus_in_use.total) == ("n1", 4, 1)
    assert (first.cpus, first.cpus_in_use, first.is_allocated) == (8, 4, True)
    assert first.gpus.by_type == {"a100": 4}
    assert not second.is_in_service
    assert second.is_draining


def test_what_went_wrong_is_told_apart() -> None:
    unreached = "Connection refused\nqsub: cannot connect to server pbs (errno=111)"
    assert classify_failure(unreached) is Failure.UNREACHED
    assert classify_failure("qsub: End of File") is Failure.NO_ANSWER
    assert classify_failure("qsub: Unknown queue") is Failure.REFUSED
    assert only_tells_of_missing_jobs("qstat: Unknown Job Id 1.pbs\n")
    assert not only_tells_of_missing_jobs("qstat: Unknown Job Id 1.pbs\nqstat: End of File\n")
    assert not only_tells_of_missing_jobs("")
    assert only_tells_of_ended_jobs("qdel: Job has finished 1.pbs\n")
