"""What a rank finds in its environment."""

from __future__ import annotations

import pytest

from shipway_agent.job.errors import JobError, StaleJob
from shipway_agent.job.rank import Rank, inherited_environment, read_rank, task_environment

RANK = Rank(number=3, peers=4, node="n4")


def test_the_rank_is_slurms() -> None:
    environ = {"SLURM_PROCID": "2", "SLURM_NPROCS": "8", "SLURMD_NODENAME": "n3"}
    assert read_rank(environ, host_name="host") == Rank(number=2, peers=8, node="n3")


def test_without_slurm_there_is_one_rank_on_this_host() -> None:
    assert read_rank({}, host_name="host") == Rank(number=0, peers=1, node="host")


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_PROCID": "x"},
        {"SLURM_PROCID": "-1"},
        {"SLURM_PROCID": "4", "SLURM_NPROCS": "4"},
        {"SLURM_RESTART_COUNT": "many"},
    ],
    ids=str,
)
def test_what_slurm_would_not_say_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(JobError, match="SLURM_"):
        read_rank(environ, host_name="host")


def test_a_restarted_job_is_stale() -> None:
    with pytest.raises(StaleJob):
        read_rank({"SLURM_RESTART_COUNT": "1"}, host_name="host")


def test_slurms_words_win_over_the_manifests() -> None:
    ordered = {"SLURM_PROCID": "9", "CUDA_VISIBLE_DEVICES": "7", "A": "1"}
    environ = {
        "SLURM_PROCID": "0",
        "CUDA_VISIBLE_DEVICES": "1",
        "SLURM_JWT": "secret",
        "PATH": "/x",
    }
    assert inherited_environment(ordered, environ) == {
        "SLURM_PROCID": "0",
        "CUDA_VISIBLE_DEVICES": "1",
        "A": "1",
    }


@pytest.mark.parametrize(
    ("environment", "slots", "offset", "visible"),
    [
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "2,3"}, "[2,3]", "2", "2,3"),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a"}, "[1,0]", "1", "1,0"),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "MIG-x,1"}, "[0,1]", "0", "MIG-x,1"),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "1,MIG-x"}, "[1,0]", "1", "1,MIG-x"),
        (
            {"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "MIG-known,MIG-x"},
            "[9,0]",
            "9",
            "MIG-known,MIG-x",
        ),
        (
            {"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "GPU-b,GPU-z"},
            "[1,0]",
            "1",
            "GPU-b,GPU-z",
        ),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": " 2 , 3,-1,4"}, "[2,3]", "2", "2,3"),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "3,3"}, "[3]", "3", "3"),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "void"}, "[]", "0", ""),
        ({"DET_SLOT_TYPE": "rocm", "ROCR_VISIBLE_DEVICES": "GPU-b,GPU-a"}, "[1,0]", "1", None),
        ({"DET_SLOT_TYPE": "rocm", "HIP_VISIBLE_DEVICES": "6"}, "[6]", "6", None),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": "NoDevFiles"}, "[]", "0", ""),
        ({"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": ""}, "[]", "0", ""),
        ({"DET_SLOT_TYPE": "cuda"}, "[0]", "0", None),
        ({"DET_SLOT_TYPE": "cuda", "DET_SLOT_IDS": "[0,1]"}, "[0,1]", "0", None),
        ({"DET_SLOT_TYPE": "cpu", "CUDA_VISIBLE_DEVICES": "5"}, "[0]", "0", "5"),
        (
            {
                "DET_SLOT_TYPE": "rocm",
                "ROCR_VISIBLE_DEVICES": "4,5",
                "CUDA_VISIBLE_DEVICES": "4,5",
            },
            "[4,5]",
            "4",
            None,
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_slots_are_the_visible_devices(
    environment: dict[str, str], slots: str, offset: str, visible: str | None
) -> None:
    found = task_environment(environment, RANK, {"GPU-a": 0, "GPU-b": 1, "MIG-known": 9})
    assert found["DET_SLOT_IDS"] == slots
    assert found["DET_UNIQUE_PORT_OFFSET"] == offset
    assert found.get("CUDA_VISIBLE_DEVICES") == visible
    assert (found["DET_AGENT_ID"], found["DET_CONTAINER_ID"]) == ("n4", "[cont=3]")
