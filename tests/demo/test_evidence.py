"""What the demo takes for proof, and what it does not."""

from __future__ import annotations

import re

from demo.evidence import Evidence
from demo.screen import draw_sparkline

STORY = [
    "4 out of 4 containers running on nodes demo-node",
    *(f"[rank={rank}] running as one of 4" for rank in range(4)),
    *(f"[rank={rank}] all-gather gave 4 addresses: a b c d" for rank in range(4)),
    *(f"[rank=0] step {step}/120 loss 0.5" for step in (10, 20, 30, 40)),
    "gracefully terminating allocation's remaining resources (reason: preempted by the scheduler)",
    "[rank=0] pre-empted: checkpoint written at step 41, leaving",
    "[rank=0] resuming from step 41",
    "[rank=0] finished at step 120: y = 2.9 x + -1.5",
]
ENDED = {"state": "STATE_TERMINATED", "allocationId": "t.1"}


def tell(lines: list[str]) -> Evidence:
    evidence = Evidence(ranks=4, allocations=[ENDED, ENDED], series={"cpu": [1.0]})
    for line in lines:
        rank = re.match(r"\[rank=(\d+)\] ", line)
        evidence.read_log(
            {"log": line + "\n"}
            if rank is None
            else {"log": line.removeprefix(rank[0]) + "\n", "rankId": int(rank[1])}
        )
    return evidence


def test_the_whole_story_is_enough() -> None:
    assert tell(STORY).was_all_seen()


def test_each_line_of_the_story_is_needed() -> None:
    # one progress line may be missing, the others prove it
    needed = [line for line in STORY if "step 10/" not in line]
    for missing in needed:
        if "step" in missing and "/120" in missing:
            continue
        assert not tell([line for line in STORY if line != missing]).was_all_seen(), missing


def test_resuming_from_another_step_is_no_proof() -> None:
    changed = [line.replace("resuming from step 41", "resuming from step 0") for line in STORY]
    assert not tell(changed).was_all_seen()


def test_a_failed_allocation_is_no_success() -> None:
    evidence = tell(STORY)
    evidence.allocations = [ENDED, {**ENDED, "statusCode": 1, "exitReason": "it broke"}]
    assert not evidence.was_all_seen()
    assert evidence.errors() == ["t.1: it broke"]


def test_a_sparkline_spans_lowest_to_highest() -> None:
    assert draw_sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert draw_sparkline([5, 5]) == "▁▁"
