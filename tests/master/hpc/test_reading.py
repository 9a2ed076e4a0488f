"""What a launcher answers, however it does."""

from __future__ import annotations

import pytest

from shipway_master.allocations.ids import AllocationId, ResourcesId
from shipway_master.hpc.dispatch import note_reason
from shipway_master.hpc.messages import (
    collect_messages,
    cut_error_log,
    filter_messages,
    find_exit_code,
)
from shipway_master.hpc.reading import (
    DispatchEvent,
    DispatchState,
    QueuedJob,
    UnreadableAnswer,
    cut_queue,
    parse_queue,
    parse_resources,
    parse_status,
)
from shipway_master.hpc.records import DispatchRecord
from shipway_master.hpc.version import explain_version

RESOURCES = """
partitions:
- totalAvailableNodes: 293
  totalAllocatedNodes: 21
  partitionName: workq
  default: true
  totalAvailableGpuSlots: 16
  totalNodes: 314
  totalGpuSlots: 16
  totalAvailableCpuSlots: 37000
  totalCpuSlots: 40192
  accelerator: tesla
- partitionName: "123"
nodes:
- name: node001
  partitions: [workq]
  addresses: ["10.141.0.1"]
  draining: false
  allocated: true
  gpuCount: 4
  gpuInUseCount: 2
  cpuCount: 128
  cpuInUseCount: 16
defaultComputePoolPartition: x
"""


def test_resources() -> None:
    sample = parse_resources(RESOURCES)
    assert [one.name for one in sample.partitions] == ["workq", "123"]
    assert sample.partitions[0].is_default
    assert sample.nodes_of("workq")[0].gpus_in_use == 2
    assert sample.find_partition("nope") is None


@pytest.mark.parametrize("text", ["", "null", "{}"])
def test_nothing_is_a_sample_of_nothing(text: str) -> None:
    assert parse_resources(text).partitions == ()


@pytest.mark.parametrize("text", ["[1]", "partitions: 3", "a: [", "partitions: [{default: true}]"])
def test_what_are_no_resources(text: str) -> None:
    with pytest.raises(UnreadableAnswer):
        parse_resources(text)


def test_the_queue_and_a_job_that_cannot_be_read() -> None:
    jobs = parse_queue(
        '"109084":\n  state: PENDING\n  reasonCode: Resources\n  reasonDesc: waiting\n'
        '"5": [1]\n"": {state: RUNNING}\n12: {state: RUNNING, gpuSlots: 4}\n'
    )
    assert set(jobs) == {"109084", "12"}
    assert jobs["109084"].reason_code == "Resources"


@pytest.mark.parametrize("text", ["{}", "", "null"])
def test_an_empty_queue(text: str) -> None:
    assert parse_queue(text) == {}


def test_a_status() -> None:
    status = parse_status(
        {
            "dispatchId": "a.1",
            "launchingUser": "u",
            "state": "FAILED",
            "events": [
                {"level": "ERROR", "reporter": "r", "message": "m"},
                {"level": "ERROR", "message": "no reporter"},
                None,
            ],
            "additionalProperties": {"job-id": "17", "exit-code": 7},
        }
    )
    assert status.state is DispatchState.FAILED
    assert [event.message for event in status.events] == ["m"]
    assert (status.job_id, status.exit_code, status.owner) == ("17", 7, "u")


@pytest.mark.parametrize("extra", [None, 7, [], {"job-id": 17}, {"job-id": None}, {}])
def test_a_job_id_that_is_none(extra: object) -> None:
    status = parse_status({"state": "RUNNING", "additionalProperties": extra, "events": None})
    assert status.job_id is None


def test_a_state_nobody_has_heard_of_is_watched_on() -> None:
    status = parse_status({"state": "FROBNICATING"})
    assert status.state is DispatchState.UNKNOWN
    assert not status.state.is_final


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"state": None}, {"state": 3}])
def test_what_is_no_status(answer: object) -> None:
    with pytest.raises(UnreadableAnswer):
        parse_status(answer)


SLURM = "Slurm job is in a failed state due to reason 'NonZeroExitCode':\n  Job Exited with Exit Code 7\n"
PBS = (
    "Failed to launch payload x with carrier com.cray.analytics.capsules.carriers.hpc.pbs."
    "SingularityOverPbs - PBS job is in a failed state due to reason 'Failed':\n  Signal 15"
)
SUBMIT = (
    "Failed to launch payload ai - Slurm job process terminated with exit code 1:\n"
    "sbatch: error: Batch job submission failed: Requested node configuration is not available\n"
)


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        (["noise", SLURM], [SLURM]),
        (["...\n" + SLURM], [SLURM]),
        (
            ["com.cray.analytics.capsules.carriers.hpc.slurm.X - " + SLURM],
            [SLURM],
        ),
        ([PBS], ["failed state due to reason 'Failed':\n  Signal 15"]),
        ([SUBMIT, "noise"], [SUBMIT.split("\n", 1)[1]]),
        (["only", "noise"], ["only", "noise"]),
        (["twice", "twice"], ["twice"]),
        ([], []),
    ],
)
def test_what_is_kept_of_messages(messages: list[str], kept: list[str]) -> None:
    assert filter_messages(messages) == kept


def test_only_warnings_and_errors_of_those_who_matter_are_collected() -> None:
    noisy = "com.cray.analytics.capsules.dispatcher.shasta.ShastaDispatcher"
    events = [
        DispatchEvent(level="INFO", reporter="r", message="info"),
        DispatchEvent(level="ERROR", reporter=noisy, message="noise"),
        DispatchEvent(level="WARNING", reporter="r", message="warning"),
    ]
    assert collect_messages(events) == ["warning"]


def test_the_exit_code_is_in_the_message() -> None:
    assert find_exit_code(["x", SLURM]) == 7
    assert find_exit_code(["Job Exited with Exit Code 0", "none"]) is None


def test_the_end_of_the_error_log_once_all_ran_and_all_of_it_before() -> None:
    text = "\n".join(str(number) for number in range(40)) + "\n"
    assert cut_error_log(text, all_running=False) == text.rstrip("\n")
    cut = cut_error_log(text, all_running=True).split("\n")
    assert cut[0].startswith("Job terminated.")
    assert cut[1:] == [str(number) for number in range(25, 40)]
    assert cut_error_log("", all_running=True) == ""


def test_each_reason_is_told_once() -> None:
    record = DispatchRecord(
        id=AllocationId("a.1"),
        resources_id=ResourcesId("r"),
        pool="gpu",
        owner="launcher",
        payload="x",
    )
    told = [
        note_reason(record, QueuedJob(state=state, reasonCode=code, reasonDesc=f"about {code}"))
        for state, code in [
            ("PENDING", "Priority"),
            ("PENDING", "Priority"),
            ("pending", "Resources"),
            ("R", "Prolog"),
            ("RUNNING", "None"),
            ("RUNNING", "None"),
        ]
    ]
    assert told == [
        "HPC job waiting to be scheduled: about Priority",
        None,
        "HPC job waiting to be scheduled: about Resources",
        "HPC job waiting on pre-condition: about Prolog",
        "HPC job pre-condition cleared.",
        None,
    ]


@pytest.mark.parametrize("text", ["3.3.7", "3.3.1", "v3.3.9", "3.3.7+x", "3.3.7-SNAPSHOT", "4.0.0"])
def test_versions_that_will_do(text: str) -> None:
    assert explain_version(text) == ""


@pytest.mark.parametrize("text", ['"3.3.7"', "3.3.7\n", "3.3", "3.3.0", "3.3.1-rc1", "", "<html>"])
def test_versions_that_will_not(text: str) -> None:
    assert "3.3.1" in explain_version(text)


def test_ids_and_names_are_taken_as_they_are_written() -> None:
    """Whoever writes the queue need not put a date, or what looks like a number, into quotes."""
    jobs = parse_queue(
        "1234: {state: RUNNING, name: 2024-13-45}\n"
        "123_4: {state: PENDING, name: 0x_, reasonCode: 007}\n"
    )
    assert {job_id: (job.state, job.name, job.reason_code) for job_id, job in jobs.items()} == {
        "1234": ("RUNNING", "2024-13-45", ""),
        "123_4": ("PENDING", "0x_", "007"),
    }


def test_of_a_long_queue_only_some_jobs_are_read() -> None:
    own = "'17':\n  state: RUNNING\n  name: a\n\n  reasonDesc: b\n    c\n"
    more = "18_1: {state: PENDING}\n"
    text = f"---\n16:\n  state: RUNNING\n{own}170: [\n{more}117:\n  name: '17':\n"
    assert cut_queue(text, {"17", "18_1", "5"}) == own + more
    assert parse_queue(own)["17"].reason_text == "b c"


@pytest.mark.parametrize(
    "text",
    ['{"17": {"state": "RUNNING"}}', "? 17\n: {state: RUNNING}\n", "%YAML 1.1\n---\n17: {}\n"],
)
def test_a_queue_in_another_form_is_read_whole(text: str) -> None:
    assert cut_queue(text, {"18"}) == text
    assert set(parse_queue(text)) == {"17"}
