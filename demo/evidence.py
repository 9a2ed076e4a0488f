"""What must be seen to happen before the demo may say that it worked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Facts of one task, collected from its log and from the API."""

    ranks: int
    running: set[int] = field(default_factory=set[int])
    gathered: set[int] = field(default_factory=set[int])
    steps: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    checkpoint_step: int | None = None
    resumed_step: int | None = None
    finished: str | None = None
    all_running_noted: bool = False
    notice_reached_master: bool = False
    allocations: Sequence[Mapping[str, Any]] = ()
    series: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])

    def read_log(self, line: Mapping[str, Any]) -> None:
        """Take what one line of the task's log tells, as `TaskLogs` gives it."""
        said, rank = str(line["log"]).rstrip("\n"), line.get("rankId")
        if re.search(r"(\d+) out of \1 containers running", said):
            self.all_running_noted = True
        if "preempted by the scheduler" in said:
            self.notice_reached_master = True
        if rank is None:
            return
        if said.startswith("running as one of"):
            self.running.add(rank)
        elif said.startswith(f"all-gather gave {self.ranks} addresses"):
            self.gathered.add(rank)
        elif step := re.match(r"step (\d+)/\d+ loss ([\d.]+)", said):
            self.steps.append((int(step[1]), float(step[2])))
        elif step := re.match(r"pre-empted: checkpoint written at step (\d+)", said):
            self.checkpoint_step = int(step[1])
        elif step := re.match(r"resuming from step (\d+)", said):
            self.resumed_step = int(step[1])
        elif said.startswith("finished"):
            self.finished = said

    def findings(self) -> list[tuple[str, bool]]:
        """Name each thing that had to happen, and say whether it was seen."""
        everyone = set(range(self.ranks))
        ended = [one for one in self.allocations if one["state"] == "STATE_TERMINATED"]
        return [
            (f"all {self.ranks} ranks ran", self.running == everyone),
            ("the master heard that every container runs", self.all_running_noted),
            ("every rank got every address by all-gather", self.gathered == everyone),
            ("the training made progress", len(self.steps) > 2),
            ("the notice of preemption reached the master", self.notice_reached_master),
            (
                "the task wrote a checkpoint and left"
                + (f" (step {self.checkpoint_step})" if self.checkpoint_step else ""),
                self.checkpoint_step is not None,
            ),
            ("it was started again as a new allocation", len(self.allocations) == 2),
            (
                "it went on from its checkpoint",
                self.resumed_step is not None and self.resumed_step == self.checkpoint_step,
            ),
            ("it finished: " + (self.finished or "not seen"), self.finished is not None),
            ("both allocations ended without an error", len(ended) == 2 and not self.errors()),
            ("its metrics were measured and stored", any(self.series.values())),
        ]

    def errors(self) -> list[str]:
        return [
            f"{one['allocationId']}: {one.get('exitReason') or one['statusCode']}"
            for one in self.allocations
            if one.get("statusCode")
        ]

    def was_all_seen(self) -> bool:
        return all(seen for _, seen in self.findings())
