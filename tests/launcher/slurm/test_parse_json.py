"""What `squeue --json` prints, recorded and in the shapes of other releases."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shipway_launcher.slurm.parse_json import parse_jobs_json
from shipway_launcher.slurm.rows import WaitStatus
from shipway_launcher.slurm.states import End, Phase

DATA = Path(__file__).parent / "data"
RECORDED = sorted(DATA.glob("squeue-*.json"))


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_what_was_recorded_reads_the_same_from_every_release(file: Path) -> None:
    """Each file holds the same jobs: running, hopeless, parts of an array, a heterogeneous one."""
    rows = {row.shown_id: row for row in parse_jobs_json(file.read_text())}
    assert set(rows) == {"1", "2", "3_1", "3_3", "6+0", "6+1"}
    running = rows["1"]
    assert running.state.phase is Phase.RUNNING
    assert (running.user, running.partition, running.cpus, running.gpus) == ("root", "gpu", 1, 2)
    assert running.time_limit_s == 600
    assert running.starts_at is not None
    assert running.ends_at is not None
    assert (running.ends_at - running.starts_at).total_seconds() == 600
    assert (running.preempted_at, running.restarts, running.reason) == (None, 0, "None")
    # 24.11 refuses this one at once, and leaves a row nevertheless.
    assert rows["2"].reason in ("PartitionNodeLimit", "BadConstraints")
    assert rows["2"].state.phase in (Phase.WAITING, Phase.ENDED)
    assert rows["3_1"].state.end is End.FAILED
    assert rows["3_1"].exit == WaitStatus(code=3, signal=0)
    assert rows["6+1"].id == "7"


def job(**changes: Any) -> dict[str, Any]:
    return {"job_id": 7, "job_state": ["RUNNING"], "name": "x", "user_name": "bob", **changes}


def answer(*jobs: dict[str, Any], **changes: Any) -> str:
    return json.dumps({"jobs": jobs, "errors": [], **changes})


def number(value: int, **changes: Any) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": value, **changes}


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("RUNNING", Phase.RUNNING),
        (["RUNNING", "COMPLETING"], Phase.ENDING),
        (["PENDING"], Phase.WAITING),
        (["FROBNICATING"], Phase.UNKNOWN),
        ([], Phase.UNKNOWN),
        (None, Phase.UNKNOWN),
        (7, Phase.UNKNOWN),
    ],
)
def test_states(state: object, phase: Phase) -> None:
    (row,) = parse_jobs_json(answer(job(job_state=state)))
    assert row.state.phase is phase


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, WaitStatus(code=0, signal=0)),
        (768, WaitStatus(code=3, signal=0)),
        (9, WaitStatus(code=0, signal=9)),
        (
            {
                "status": ["ERROR"],
                "return_code": number(3),
                "signal": {"id": number(0, set=False), "name": ""},
            },
            WaitStatus(code=3, signal=0),
        ),
        (
            {
                "status": ["SIGNALED"],
                "return_code": number(0),
                "signal": {"id": number(9), "name": "KILL"},
            },
            WaitStatus(code=0, signal=9),
        ),
        (
            {"return_code": 3, "signal": {"signal_id": 15, "name": "TERM"}},
            WaitStatus(code=3, signal=15),
        ),
        ({"return_code": number(0, set=False)}, None),
        (None, None),
        ("?", None),
    ],
)
def test_exit_codes(code: object, status: WaitStatus | None) -> None:
    (row,) = parse_jobs_json(answer(job(exit_code=code)))
    assert row.exit == status


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1795637815, 1795637815),
        (number(1795637815), 1795637815),
        (0, None),
        (number(0), None),
        (number(5, set=False), None),
        (number(5, infinite=True), None),
        (6090606196, None),
        (None, None),
        ("soon", None),
        (True, None),
    ],
)
def test_times(value: object, seconds: int | None) -> None:
    (row,) = parse_jobs_json(answer(job(preempt_time=value)))
    assert row.preempted_at == (None if seconds is None else datetime.fromtimestamp(seconds, UTC))


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [(10, 600), (number(10), 600), (number(0, infinite=True), None), (0, None)],
)
def test_time_limits(limit: object, seconds: int | None) -> None:
    (row,) = parse_jobs_json(answer(job(time_limit=limit)))
    assert row.time_limit_s == seconds


def test_gpus_are_counted_by_how_they_were_asked_for() -> None:
    texts: list[dict[str, Any]] = [
        {"tres_per_node": "gres/gpu:a100:2", "node_count": number(3)},
        {"tres_per_node": "gres:gpu:2", "node_count": 3},
        {"tres_alloc_str": "cpu=1,gres/gpu=6"},
    ]
    for text in texts:
        (row,) = parse_jobs_json(answer(job(**text)))
        assert row.gpus == 6


def test_texts_that_people_choose_are_only_texts() -> None:
    name = 'a"}]}\n{"jobs": []}\u0000\udcff'
    (row,) = parse_jobs_json(answer(job(name=name, comment={"job": "x", "system": "y"})))
    assert (row.name, row.comment) == (name, "x")


def test_banners_around_the_answer_are_passed_over() -> None:
    text = f"Welcome {{to}}\n{{not json\n{answer(job())}\nGoodbye\n"
    assert [row.id for row in parse_jobs_json(text)] == ["7"]


@pytest.mark.parametrize("item", [None, 7, "x", {}, {"job_id": "7"}, {"job_id": 0}])
def test_what_is_no_job_is_left_out(item: Any) -> None:
    assert [row.id for row in parse_jobs_json(answer(item, job()))] == ["7"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", "squeue: error: unrecognized option '--json'\n"),
        answer(job())[:-3],
        answer(errors=[{"error": "Unable to contact slurm controller"}]),
        json.dumps({"jobs": None}),
    ],
)
def test_what_is_no_whole_answer_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|no list of jobs"):
        parse_jobs_json(text)


def test_fields_of_wrong_types_cost_themselves_only() -> None:
    (whole,) = parse_jobs_json(answer(job()))
    for field in ("state_reason", "partition", "nodes", "cpus", "restart_cnt", "array_job_id"):
        for wrong in ([], {}, {"set": "yes"}, 1.5e300, "x" * 10):
            broken = copy.deepcopy(job())
            broken[field] = wrong
            (row,) = parse_jobs_json(answer(broken))
            assert row.id == whole.id
