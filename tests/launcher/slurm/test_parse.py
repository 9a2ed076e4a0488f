"""What Slurm's commands print, with all that surrounds it in the field."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shipway_launcher.slurm.commands import JOB_FIELDS, NODE_FIELDS, Columns
from shipway_launcher.slurm.parse import (
    Failure,
    classify_failure,
    parse_accounting,
    parse_exit,
    parse_jobs,
    parse_submitted,
    parse_time,
)
from shipway_launcher.slurm.parse_cluster import parse_nodes, parse_partitions
from shipway_launcher.slurm.rows import WaitStatus
from shipway_launcher.slurm.states import End, Phase


@pytest.mark.parametrize(
    "stdout",
    [
        "4711\n",
        "4711;beta\n",
        "Submitted batch job 4711\n",
        "Submitted batch job 4711 on cluster beta\n",
        (
            "-------\n   Welcome to the Example Computer\n-------\n"
            "--> Verifying jobname...OK\nSubmitted batch job 4711\n"
        ),
        (
            "sbatch: INFO: Note that 128 GB per node will need a big node\n"
            "because of overhead.\n4711\nand more text\n"
        ),
        "4711",
        "4711\r\n",
    ],
)
def test_the_id_is_found_among_what_a_site_prints(stdout: str) -> None:
    assert parse_submitted(stdout) == "4711"


@pytest.mark.parametrize("stdout", ["", "ok\n", "12 jobs\n", "1\n2\n", "job 4711 soon\n"])
def test_no_clear_id_is_none(stdout: str) -> None:
    assert parse_submitted(stdout) is None


@pytest.mark.parametrize(
    ("stderr", "failure"),
    [
        ("sbatch: error: Socket timed out on send/recv operation", Failure.NO_ANSWER),
        ("slurm_load_jobs error: Zero Bytes were transmitted or received", Failure.NO_ANSWER),
        (
            (
                "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
                " (connect failure)"
            ),
            Failure.UNREACHED,
        ),
        ("sbatch: fatal: Could not establish a configuration source", Failure.UNREACHED),
        (
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
            Failure.REFUSED,
        ),
        ("sbatch: unrecognized option '--x'", Failure.REFUSED),
        ("", Failure.REFUSED),
    ],
)
def test_a_refusal_is_told_from_silence(stderr: str, failure: Failure) -> None:
    assert classify_failure(stderr) is failure


def record(columns: Columns, **values: str) -> str:
    """Return one record as squeue prints it for our format."""
    return "".join(values.get(name, "N/A") + columns.label(name) for name in columns.fields) + "\n"


def job(columns: Columns, job_id: str = "7", **values: str) -> str:
    defaults = {
        "JobID": job_id,
        "JobArrayID": job_id,
        "State": "RUNNING",
        "UserName": "bob",
        "Partition": "gpu",
        "NumCPUs": "4",
        "NumNodes": "2",
        "NumTasks": "2",
        "exit_code": "0",
        "RestartCnt": "0",
        "SubmitTime": "1795616664",
        "Reason": "None",
        "Comment": "(null)",
        "Name": "wrap",
    }
    return record(columns, **{**defaults, **values})


def test_a_job_is_read() -> None:
    columns = Columns.of(JOB_FIELDS)
    (row,) = parse_jobs(columns, job(columns, **{"tres-per-node": "gres:gpu:a100:2"}))
    assert row.state.phase is Phase.RUNNING
    assert (row.user, row.partition, row.cpus, row.gpus) == ("bob", "gpu", 4, 4)
    assert row.submitted_at == datetime.fromtimestamp(1795616664, UTC)
    assert row.preempted_at is None
    assert row.comment == ""


def test_a_foreign_name_cannot_shift_a_field_or_add_a_job() -> None:
    columns, other = Columns.of(JOB_FIELDS), Columns.of(JOB_FIELDS)
    forged = job(other, "8", State="FAILED", UserName="root")
    evil = f"x|t|\n8|a|8|b|FAILED|c|\n{forged}|s|\n"
    text = job(columns, "7", Name=evil, Comment=evil) + job(columns, "9")
    rows = parse_jobs(columns, text)
    assert [row.id for row in rows] == ["7", "9"]
    assert rows[0].name == evil
    assert rows[0].state.phase is Phase.RUNNING


def test_banners_around_the_records_are_not_jobs() -> None:
    columns = Columns.of(JOB_FIELDS)
    text = f"CLUSTER: beta\nWelcome\n{job(columns, '7')}Goodbye\n"
    assert [row.id for row in parse_jobs(columns, text)] == ["7"]


def test_a_column_that_a_release_lacks_costs_that_column_only() -> None:
    columns = Columns.of(JOB_FIELDS)
    text = job(columns).replace(f"N/A{columns.label('PreemptTime')}", "")
    (row,) = parse_jobs(columns, text)
    assert row.preempted_at is None
    assert row.user == "bob"


@pytest.mark.parametrize("cut", [10, 60, -3])
def test_an_answer_that_breaks_off_is_no_answer(cut: int) -> None:
    columns = Columns.of(JOB_FIELDS)
    text = job(columns, "7") + job(columns, "8")[:cut]
    with pytest.raises(ValueError, match="no whole record"):
        parse_jobs(columns, text + columns.nonce)


def test_no_jobs_is_an_answer_and_noise_is_none() -> None:
    columns = Columns.of(JOB_FIELDS)
    assert parse_jobs(columns, "") == []
    with pytest.raises(ValueError, match="no whole record"):
        parse_jobs(columns, "something went wrong\n")


@pytest.mark.parametrize(
    "shown",
    [
        *("57829110_[5-100]", "123_[1-5%2]", "123_[3,6-9%2]", "123_[60-89,91-94,96-98]"),
        *("123456_[9201-10000%500]", "123_7", "5+0", "5+1"),
    ],
)
def test_ids_of_parts_are_kept_as_they_are(shown: str) -> None:
    columns = Columns.of(JOB_FIELDS)
    (row,) = parse_jobs(columns, job(columns, JobArrayID=shown))
    assert row.shown_id == shown


@pytest.mark.parametrize("job_id", ["123.batch", "abc", "", "12 34", "-1"])
def test_what_has_no_proper_id_is_left_out(job_id: str) -> None:
    columns = Columns.of(JOB_FIELDS)
    assert parse_jobs(columns, job(columns, job_id)) == []


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("0", WaitStatus(code=0, signal=0)),
        ("1024", WaitStatus(code=4, signal=0)),
        ("9", WaitStatus(code=0, signal=9)),
        ("0:15", WaitStatus(code=0, signal=15)),
        ("137:0", WaitStatus(code=137, signal=0)),
        ("0:125", WaitStatus(code=0, signal=125)),
        ("N/A", None),
        ("", None),
    ],
)
def test_exit_codes(text: str, status: WaitStatus | None) -> None:
    assert parse_exit(text) == status


@pytest.mark.parametrize(
    "text",
    [
        *("UNLIMITED", "INFINITE", "NOT_SET", "INVALID", "N/A", "None", "Unknown", "", "0:00"),
        *("1-00:00:00", "-0:05", "02 Jan 03:04", "Tomorr 03:04", "0", "99999999999999"),
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert parse_time(text) is None


def test_times() -> None:
    assert parse_time("1767323045") == datetime.fromtimestamp(1767323045, UTC)
    local = parse_time("2026-01-02T03:04:05")
    assert local is not None
    assert local.tzinfo is not None


def test_accounting_rows() -> None:
    text = (
        "banner\n21|FAILED|4:0|1795616664|bob\n22|CANCELLED by 1000|0:15|1795616664|bob\n"
        "23|RUNNING|0:0|1795616664|bob\n21.batch|FAILED|4:0|1795616664|\n"
        "24|OUT_OF_MEMORY|0:125|Unknown|bob\nx|y|z|a|b\n25|FAILED|4:0\n"
    )
    rows = parse_accounting(text)
    assert (rows["21"].user, rows["21"].submitted_at) == (
        "bob",
        datetime.fromtimestamp(1795616664, UTC),
    )
    assert {job_id: row.state.end for job_id, row in rows.items()} == {
        "21": End.FAILED,
        "22": End.CANCELLED,
        "23": None,
        "24": End.OUT_OF_MEMORY,
    }


def node(columns: Columns, name: str, state: str, **values: str) -> str:
    defaults = {
        "NodeList": name,
        "PartitionName": "gpu",
        "NodeAddr": "10.0.0.1",
        "StateComplete": state,
        "StateLong": state,
        "Gres": "gpu:a100:4(S:0-1)",
        "GresUsed": "gpu:a100:1(IDX:0)",
        "CPUsState": "2/6/0/8",
    }
    return record(columns, **{**defaults, **values})


@pytest.mark.parametrize(
    ("state", "is_in_service", "is_draining"),
    [
        ("idle", True, False),
        ("mixed", True, False),
        ("allocated", True, False),
        ("MIXED+PLANNED", True, False),
        ("idle+cloud+powered_down", True, False),
        ("idle~", True, False),
        ("completing", True, False),
        ("idle+drain", False, True),
        ("mixed+drain", False, True),
        ("drained", False, True),
        ("down", False, False),
        ("down*", False, False),
        ("idle*", False, False),
        ("idle+not_responding", False, False),
        ("idle+fail", False, False),
        ("maint", False, False),
        ("inval", False, False),
        ("unknown", False, False),
        ("future", False, False),
        ("frobnicating", False, False),
        ("", False, False),
    ],
)
def test_node_states(state: str, is_in_service: bool, is_draining: bool) -> None:
    columns = Columns.of(NODE_FIELDS)
    (row,) = parse_nodes(columns, node(columns, "n1", state))
    assert (row.is_in_service, row.is_draining) == (is_in_service, is_draining)


def test_a_node_in_two_partitions_is_one_node() -> None:
    columns = Columns.of(NODE_FIELDS)
    text = node(columns, "n1", "mixed") + node(columns, "n1", "mixed", PartitionName="low")
    (row,) = parse_nodes(columns, text)
    assert row.partitions == ("gpu", "low")
    assert (row.gpus.total, row.gpus_in_use.total, row.cpus, row.cpus_in_use) == (4, 1, 8, 2)


def test_an_unreadable_resource_costs_its_own_node_only() -> None:
    columns = Columns.of(NODE_FIELDS)
    text = node(columns, "n1", "idle", Gres="gpu:x:y") + node(columns, "n2", "idle")
    assert [row.gpus.total for row in parse_nodes(columns, text)] == [0, 4]


def test_partitions() -> None:
    text = (
        "PartitionName=b AllowGroups=ALL Default=NO MaxNodes=2 State=UP TotalNodes=4 Nodes=n[1-4]\n"
        "PartitionName=a AllowGroups=ALL Default=YES MaxNodes=UNLIMITED TotalNodes=0 Nodes=(null)\n"
    )
    rows = parse_partitions(text)
    assert [(row.name, row.is_default, row.total_nodes, row.max_nodes) for row in rows] == [
        ("b", False, 4, 2),
        ("a", True, 0, None),
    ]
