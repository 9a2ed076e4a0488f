"""Commands whose doings can be checked afterwards, line by line, whatever happened meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import re
import urllib.error
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.folders import processes_of
from tests.lab.processes import LabError, wait_until
from tests.lab.shipway import Api

LIMIT_S = 60

# Notes each start outside, prints numbered lines until it is told to end, notes how many.
_SCRIPT = """
echo started >> {folder}/starts
i=0
while :; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do i=$((i+1)); echo "n$i"; done
    echo >> {folder}/turns
    [ -e {folder}/go ] && break
    sleep {pause_s}
done
echo $i > {folder}/count
exit {exit_code}
"""

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A command that prints n1, n2, … until it is told to end, and then exits with its code."""

    api: Api
    task_id: str
    folder: Path
    """Where the command notes what it did, outside of all daemons."""
    exit_code: int
    logs: Callable[[], str]
    """The ends of the daemons' logs, for messages."""

    @property
    def starts(self) -> int:
        """How often the command has begun."""
        with contextlib.suppress(FileNotFoundError):
            return len((self.folder / "starts").read_text().splitlines())
        return 0

    @property
    def turns(self) -> int:
        """How often the command has printed its ten lines so far."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "turns").stat().st_size
        return 0

    @property
    def count(self) -> int:
        """How many lines the command printed before it ended; 0 when it has not."""
        with contextlib.suppress(FileNotFoundError):
            return int((self.folder / "count").read_text() or 0)
        return 0

    def let_end(self) -> None:
        """Tell the command to end."""
        (self.folder / "go").touch()

    def wait_for_start(self) -> None:
        """Wait until the command runs."""
        self._wait(lambda: self.starts, "has begun")

    def wait_for_last_act(self) -> None:
        """Wait until the command has done all but exit."""
        self._wait(lambda: self.count, "has come to its end")

    def wait_for_line(self, number: int) -> None:
        """Wait until the master has line *number*."""
        self._wait(lambda: f"n{number}" in self.log(), f"has its line {number} at the master")

    def wait_for_more_lines(self) -> None:
        """Wait until the master has more lines than now."""
        self.wait_for_line(max(self.numbers(), default=0) + 20)

    def wait_for_more_work(self) -> None:
        """Wait until the command has done more, whether or not the master hears of it."""
        before = self.turns
        self._wait(lambda: self.turns > before + 2, "goes on")

    def wait_for_word_or_end(self) -> None:
        """Wait until the agent has begun with the command."""
        begun = ("STATE_PULLING", "STATE_STARTING", "STATE_RUNNING", "STATE_TERMINATED")
        self._wait(lambda: self.fetch_task()["allocations"][0]["state"] in begun, "is begun with")

    def log(self) -> list[str]:
        """Return the command's log at the master."""
        entries = self.api.lines(f"/api/v1/tasks/{self.task_id}/logs")
        return [entry["log"].rstrip("\n") for entry in entries]

    def numbers(self) -> list[int]:
        """Return the numbers of the command's lines at the master, in the log's order."""
        return [int(line[1:]) for line in self.log() if re.fullmatch(r"n\d+", line)]

    def fetch_task(self) -> Any:
        """Return the task as the master gives it."""
        return self.api.call("GET", f"/api/v1/tasks/{self.task_id}")["task"]

    def fetch_reason(self) -> str:
        """Return in what words the master says how the command ended."""
        answer = self.api.call("GET", f"/api/v1/commands/{self.task_id}")
        return str(answer["command"]["exitStatus"])

    def wait_for_end(self, *, limit_s: float = LIMIT_S) -> None:
        """Wait until the master says that the task has ended."""
        self._wait(lambda: self.fetch_task().get("endTime"), "is ended", limit_s=limit_s)

    def check_done(self, *, may_lose: bool = False) -> None:
        """Check that the command ended as it meant to, was done once, and is told in full.

        Args:
            may_lose: Whether somebody else than our daemons may have lost lines; even so, none
                comes twice and all are in order.
        """
        self.wait_for_end()
        run = self.fetch_task()["allocations"][0]
        assert run.get("statusCode", 0) == self.exit_code, f"{run}\n{self._details()}"
        assert self.starts == 1, self._details()
        if may_lose:
            numbers = self.numbers()
            assert numbers == sorted(set(numbers)), self._details()
        else:
            self._check_lines()
        self.check_nothing_left()

    def check_cut_short(self, note: str) -> None:
        """Check that it was done, and that its log ends early, in order and with a note of that."""
        self.wait_for_end()
        run = self.fetch_task()["allocations"][0]
        assert run.get("statusCode", 0) == self.exit_code, f"{run}\n{self._details()}"
        assert self.starts == 1, self._details()
        numbers = self.numbers()
        assert numbers == list(range(1, len(numbers) + 1)), self._details()
        assert any(note in line for line in self.log()), self._details()
        self.check_nothing_left()

    def check_failed(self, reason: str) -> None:
        """Check that the failure names its cause, and that what was printed is there in order."""
        self.wait_for_end()
        assert re.search(reason, self.fetch_reason(), re.IGNORECASE), (
            f"{self.fetch_reason()!r} does not match {reason!r}\n{self._details()}"
        )
        assert self.starts <= 1, self._details()
        numbers = self.numbers()
        assert numbers == list(range(1, len(numbers) + 1)), self._details()
        self.check_nothing_left()

    def check_done_or_failed(self, reason: str, *, may_lose: bool = False) -> None:
        """Check that it was done, or that it was not and the failure names its cause."""
        self.wait_for_end()
        if self.fetch_task()["allocations"][0].get("statusCode", 0) == self.exit_code:
            self.check_done(may_lose=may_lose)
        else:
            self.check_failed(reason)

    def check_nothing_left(self) -> None:
        """Check that no process has anything to do with the command any more."""
        wait_until(
            lambda: not list(processes_of(self.folder)),
            f"no process of {self.task_id} is left",
            limit_s=LIMIT_S,
            logs=self._details,
        )

    def _check_lines(self) -> None:
        expected = list(range(1, self.count + 1))
        # The last ones may come after the end when there was an outage; what is wrong stays so.
        with contextlib.suppress(LabError):
            wait_until(
                lambda: len(self.numbers()) >= len(expected),
                "all lines",
                limit_s=60,
                interval_s=0.2,
            )
        assert self.numbers() == expected, f"{_difference(self.numbers())}\n{self._details()}"

    def _wait(self, is_true: Callable[[], object], what: str, *, limit_s: float = LIMIT_S) -> None:
        def ask() -> object:
            with contextlib.suppress(OSError, urllib.error.URLError):
                return is_true()
            return False

        name = f"{self.task_id} {what}"
        wait_until(ask, name, limit_s=limit_s, interval_s=0.1, logs=self._details)

    def _details(self) -> str:
        try:
            others = [line for line in self.log() if not re.fullmatch(r"n\d+", line)]
        except (OSError, LabError) as error:
            others = [f"no log to be had: {error}"]
        head = f"task {self.task_id}, starts {self.starts}, count {self.count}"
        return "\n".join([head, *others, self.logs()])


def submit(
    api: Api,
    parent: Path,
    *,
    pool: str,
    exit_code: int = 0,
    slots: int = 1,
    image: str = "",
    pause_s: float = 0.2,
    logs: Callable[[], str] = lambda: "",
) -> Work:
    """Submit a command that notes what it does in a new folder below *parent*."""
    folder = parent / f"work-{next(_numbers)}"
    folder.mkdir(mode=0o777)
    script = _SCRIPT.format(folder=folder, pause_s=pause_s, exit_code=exit_code)
    config = {
        "entrypoint": ["/bin/sh", "-c", script],
        "resources": {"slots": slots, "resource_pool": pool},
        "bind_mounts": [{"host_path": str(folder), "container_path": str(folder)}],
        **({"environment": {"image": image}} if image else {}),
    }
    answer = api.call("POST", "/api/v1/commands", {"config": config})
    return Work(
        api=api, task_id=answer["command"]["id"], folder=folder, exit_code=exit_code, logs=logs
    )


def _difference(numbers: Sequence[int]) -> str:
    """Say where a list of numbers departs from 1, 2, 3, …"""
    faults = [
        f"{after} follows {before}"
        for before, after in itertools.pairwise([0, *numbers])
        if after != before + 1
    ]
    return f"{len(numbers)} lines; {'; '.join(faults[:10]) or 'the last are missing'}"
