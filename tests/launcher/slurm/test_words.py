"""Slurm's words for states, resources, nodes, reasons and releases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shipway_launcher.slurm.gres import parse_gpus
from shipway_launcher.slurm.hostlist import expand_nodes
from shipway_launcher.slurm.reasons import explain_wait, split_reason
from shipway_launcher.slurm.states import End, Phase, parse_job_state
from shipway_launcher.slurm.version import SlurmVersion, parse_version
from tests.launcher.dispatches.test_outcome import make_row

_PHASES = {
    Phase.WAITING: "PENDING PD CONFIGURING CF REQUEUED RQ REQUEUE_FED RF REQUEUE_HOLD RH"
    " SPECIAL_EXIT SE RESV_DEL_HOLD RD POWER_UP_NODE",
    Phase.RUNNING: "RUNNING R SUSPENDED S STOPPED ST SIGNALING SI RESIZING RS STAGE_OUT SO",
    Phase.ENDING: "COMPLETING CG",
    Phase.ENDED: "COMPLETED CD CANCELLED CA FAILED F TIMEOUT TO DEADLINE DL NODE_FAIL NF BOOT_FAIL"
    " BF PREEMPTED PR OUT_OF_MEMORY OOM LAUNCH_FAILED RECONFIG_FAIL",
    Phase.UNKNOWN: "REVOKED RV FROBNICATING 17 ?",
}


@pytest.mark.parametrize(
    ("word", "phase"), [(word, phase) for phase, words in _PHASES.items() for word in words.split()]
)
def test_every_state_has_its_phase(word: str, phase: Phase) -> None:
    assert parse_job_state(word).phase is phase
    assert parse_job_state(word.lower()).phase is phase


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("CANCELLED by 1000", End.CANCELLED),
        ("CANCELLED+", End.CANCELLED),
        ("OOM", End.OUT_OF_MEMORY),
        ("TO", End.TIMED_OUT),
        ("BOOT_FAIL", End.COULD_NOT_START),
    ],
)
def test_ends(text: str, end: End) -> None:
    assert parse_job_state(text).end is end


def test_of_several_states_the_latest_counts() -> None:
    assert parse_job_state("RUNNING,COMPLETING").phase is Phase.ENDING
    assert parse_job_state("RUNNING,FROBNICATING").phase is Phase.UNKNOWN


@pytest.mark.parametrize(
    ("text", "total", "by_type"),
    [
        ("gpu:8", 8, {}),
        ("gpu:8(S:0-3)", 8, {}),
        ("gpu:8(S:0-1,4)", 8, {}),
        ("gpu:a100:4(S:0-1)", 4, {"a100": 4}),
        ("gpu:a100:4(S:0,2-3),shard:16(S:0,2-3)", 4, {"a100": 4}),
        ("gpu:turing:1,gpu:ampere:3", 4, {"turing": 1, "ampere": 3}),
        ("gpu:ampere:6(S:0-1),gpu:1g.10gb:28(S:0-1)", 34, {"ampere": 6, "1g.10gb": 28}),
        ("gpu:nvidia_h100_80gb_hbm3_1g.10gb:7", 7, {"nvidia_h100_80gb_hbm3_1g.10gb": 7}),
        ("gpu:k80:4(IDX:0-3)", 4, {"k80": 4}),
        ("gpu:3090:3(IDX:0-1,3)", 3, {"3090": 3}),
        ("gpu:a100:0(IDX:N/A)", 0, {"a100": 0}),
        ("gpu:0", 0, {}),
        ("gres:gpu:2", 2, {}),
        ("gres:gpu:a100:2", 2, {"a100": 2}),
        ("gres/gpu:2", 2, {}),
        ("gpu", 1, {}),
        ("gpu:a100", 1, {"a100": 1}),
        ("gres/gpu=4", 4, {}),
        ("gres/gpu:a100=1,gres/gpu=1", 1, {"a100": 1}),
        (
            "cpu=1,mem=50M,node=1,billing=1,gres/gpu:a100=2,gres/gpu:h100=1,gres/gpu=3",
            3,
            {"a100": 2, "h100": 1},
        ),
        ("(null)", 0, {}),
        ("N/A", 0, {}),
        ("", 0, {}),
        ("craynetwork:4", 0, {}),
        ("bandwidth:lustre:no_consume:4G", 0, {}),
        ("gpu:2K", 2048, {}),
    ],
)
def test_gpus_are_counted(text: str, total: int, by_type: dict[str, int]) -> None:
    gpus = parse_gpus(text)
    assert gpus is not None
    assert (gpus.total, gpus.by_type) == (total, by_type)


def test_gpus_that_cannot_be_counted_are_unknown() -> None:
    assert parse_gpus("gpu:x:y") is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n[01-03,07]", "n01 n02 n03 n07"),
        ("nodeA,nodeB[001,003],nodeC", "nodeA nodeB001 nodeB003 nodeC"),
        ("host-[001-002]", "host-001 host-002"),
        ("rack[0-1]_blade[0-1]", "rack0_blade0 rack0_blade1 rack1_blade0 rack1_blade1"),
        ("d05-[41-42]", "d05-41 d05-42"),
        ("c427-032,c429-002", "c427-032 c429-002"),
        ("cpn-m11-16", "cpn-m11-16"),
        ("n03d", "n03d"),
        ("n[9-11]", "n9 n10 n11"),
        ("n[09-11]", "n09 n10 n11"),
        ("n1,n1", "n1"),
        ("(null)", ""),
        ("None assigned", ""),
        ("", ""),
    ],
)
def test_node_lists(text: str, names: str) -> None:
    assert expand_nodes(text) == names.split()


@pytest.mark.parametrize(
    "text", ["n[3-1]", "a[1-2].example", "n[1-3", "n]", "/etc/hosts", "a b", "n[1-2", "n1,,n2"]
)
def test_what_slurm_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no list of nodes"):
        expand_nodes(text)


@pytest.mark.parametrize(
    ("text", "word", "line"),
    [
        ("Resources", "Resources", "The job is waiting for resources to become available"),
        ("(Priority)", "Priority", "The job is waiting for jobs of higher priority"),
        ("None", "None", ""),
        ("", "None", ""),
        (
            "QOSMaxJobsPerUserLimit",
            "QOSMaxJobsPerUserLimit",
            "The limit of running jobs that the job's quality of service sets for each user is reached",
        ),
        (
            "AssocGrpGRES",
            "AssocGrpGRES",
            "The limit of GPUs or other devices that the user's account sets is reached",
        ),
        ("SomethingNew", "SomethingNew", "SomethingNew"),
        ("two\nlines here", "two", "two lines here"),
    ],
)
def test_reasons(text: str, word: str, line: str) -> None:
    found, explained = split_reason(text)
    assert found == word
    assert explained.startswith(line)


def test_what_slurm_adds_to_a_reason_is_told_but_is_not_its_word() -> None:
    word, line = split_reason("ReqNodeNotAvail, UnavailableNodes:n[2-3]")
    assert word == "ReqNodeNotAvail"
    assert (
        line == "Nodes that the job needs are down, drained or reserved (UnavailableNodes:n[2-3])"
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("slurm 24.11.5\n", SlurmVersion(24, 11, 5)),
        ("slurm-wlm 22.05.8\n", SlurmVersion(22, 5, 8)),
        ("Welcome\nslurm 23.02.0-0rc1\n", SlurmVersion(23, 2, 0)),
        ("slurm 20.02\n", SlurmVersion(20, 2, 0)),
        ("no such thing 1.2.3\n", None),
    ],
)
def test_versions(text: str, version: SlurmVersion | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(("patch", "has_bug"), [(4, False), (5, True), (8, True), (9, False)])
def test_the_releases_with_the_bug(patch: int, has_bug: bool) -> None:
    assert SlurmVersion(22, 5, patch).has_bug_15857 is has_bug


@pytest.mark.parametrize(
    ("reason", "is_hopeless"),
    [
        ("Resources", False),
        ("Priority", False),
        ("BadConstraints", True),
        ("PartitionNodeLimit", True),
        ("PartitionTimeLimit", True),
        ("DependencyNeverSatisfied", True),
        ("InvalidQOS", True),
        ("AccountNotAllowed", True),
        ("MaxMemPerLimit", True),
        ("QOSMinGRES", True),
        ("QOSMaxGRESPerJob", True),
        ("QOSMaxGRESPerUser", False),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("AssocGrpCPURunMinutesLimit", False),
        ("MaxGRESPerAccount", False),
        ("job requeued in held state", False),
        ("SomethingNew", False),
    ],
)
def test_a_job_that_can_never_start_is_known_early(reason: str, is_hopeless: bool) -> None:
    wait = explain_wait(make_row("PENDING", reason=reason))
    assert wait.is_hopeless is is_hopeless
    assert ("can never start" in wait.line) is is_hopeless


def test_the_expected_start_is_told_while_there_is_one() -> None:
    start = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    wait = explain_wait(make_row("PENDING", reason="Resources", starts_at=start))
    assert wait.word == "Resources"
    assert f"it is expected to start at {start.astimezone():%Y-%m-%d %H:%M}" in wait.line
    for row in (
        make_row("RUNNING", starts_at=start),
        make_row("PENDING", reason="BadConstraints", starts_at=start),
    ):
        assert "expects" not in explain_wait(row).line
