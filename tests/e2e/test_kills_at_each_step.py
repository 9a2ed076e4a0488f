"""The master, or the launcher with its relay, is killed while Slurm has commands at every step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.e2e.conftest import SlurmSite
from tests.e2e.tasks import (
    fetch_command,
    fetch_log,
    wait_for_end,
    wait_for_log,
    wait_for_state,
)
from tests.lab.processes import pid_in, wait_until
from tests.lab.shipway import frozen

NODES = {
    "run": "n1",
    "cancel": "n1",
    "preempt": "n2",
    "preempt-late": "n3",
    "end": "n4",
    "submit": "n4",
}
TASK = """\
trap 'echo told' TERM
echo before
until [ -e {gate} ]; do sleep 0.1; done
echo after
exit 4
"""
MARKS = ("before", "told", "after")


class Crowd:
    """One command for each step, and the files that let them go."""

    def __init__(self, site: SlurmSite, folder: Path) -> None:
        self._site, self._folder = site, folder
        self.ids: dict[str, str] = {}

    def create(self, step: str) -> None:
        """Create the command of *step*, which ends with 4 when it may."""
        mount = {"host_path": str(self._folder), "container_path": str(self._folder)}
        config = {
            "entrypoint": [TASK.format(gate=self._folder / step)],
            "resources": {"resource_pool": "gpu", "slots": 1},
            "bind_mounts": [mount],
            "slurm": {"sbatch_args": [f"--nodelist={NODES[step]}", "--mem=50"]},
        }
        answer = self._site.api.call("POST", "/api/v1/commands", {"config": config})
        self.ids[step] = answer["command"]["id"]

    def create_running(self) -> None:
        """Create all but the one to be submitted, and wait until their tasks run."""
        steps = [step for step in NODES if step != "submit"]
        for step in steps:
            self.create(step)
        for step in steps:
            wait_for_log(self._site.api, self.ids[step], "before")
            wait_for_state(self._site.api, self.ids[step], "STATE_RUNNING")

    def preempt(self, step: str) -> None:
        """Let Slurm preempt a command, and wait until its task knows."""
        node = ["-purgent", f"-w{NODES[step]}", "--exclusive"]
        self._site.slurm.run(["sbatch", *node, "-o/dev/null", "--wrap=sleep 1"])
        self.wait_for_line(step, "told")

    def cancel(self) -> None:
        """Ask for the end of the command that is there for it."""
        command_id = self.ids["cancel"]
        self._site.api.call("POST", f"/api/v1/commands/{command_id}/kill")

    def let_go(self, *steps: str) -> None:
        """Let the tasks of *steps* end."""
        for step in steps:
            (self._folder / step).touch()

    def record(self, step: str) -> dict[str, object]:
        """Return the launcher's record of a command's dispatch; empty if there is none yet."""
        dispatches = self._site.folder / "launcher/dispatches"
        found = list(dispatches.glob(f"*{self.ids[step]}*/record.json"))
        return json.loads(found[0].read_text()) if found else {}

    def wait_for_line(self, step: str, line: str) -> None:
        """Wait until a task has written a line, of which the master may not hear now."""
        folder = self._site.folder / "launcher"
        wait_until(
            lambda: any(
                f"{line}\n" in path.read_text()
                for path in folder.rglob("output.log")
                if self.ids[step] in str(path)
            ),
            f"{step} writes {line}",
            limit_s=60,
        )

    def check(self, step: str, *marks: str, status: str, may_lack: Sequence[str] = ()) -> None:
        """Check that a command ran in one job, ended as it meant to, and its lines are there once.

        Args:
            step: The command that is there for it.
            marks: The lines.
            status: How it ended.
            may_lack: Further lines, which may be there.
        """
        site, command_id = self._site, self.ids[step]
        wait_for_end(site.api, command_id, limit_s=60)
        for mark in marks:
            wait_for_log(site.api, command_id, mark)  # the relay may bring it after the end
        found = Counter(line for line in fetch_log(site.api, command_id) if line in MARKS)
        assert Counter(marks) <= found <= Counter((*marks, *may_lack)), (step, found)
        assert status in fetch_command(site.api, command_id)["exitStatus"], step
        named = site.slurm.run(["squeue", "-h", "-t", "all", "-o", "%i %j"]).stdout.splitlines()
        assert len([line for line in named if command_id in line]) == 1, step


@pytest.fixture
def crowd(slurm_site: SlurmSite, tmp_path: Path) -> Iterator[Crowd]:
    """The commands that run; the last is created by the test."""
    found = Crowd(slurm_site, tmp_path)
    found.create_running()
    yield found
    found.let_go(*NODES)
    slurm_site.slurm.clear()


@pytest.mark.parametrize("name", ["master", "launcher"])
def test_a_daemon_is_killed_while_commands_are_at_each_step(
    slurm_site: SlurmSite, crowd: Crowd, name: str
) -> None:
    """Slurm stands still, so that sbatch and scancel are under way."""
    daemon = {"master": slurm_site.master, "launcher": slurm_site.launcher}[name]
    controller = pid_in(slurm_site.slurm.folder / "run/slurmctld.pid")
    assert controller is not None
    crowd.preempt("preempt")
    with frozen(controller):
        crowd.create("submit")
        crowd.cancel()
        wait_until(
            lambda: crowd.record("submit").get("submission") == "submitting", "sbatch", limit_s=60
        )
        wait_until(
            lambda: crowd.record("cancel").get("terminate_requested_at"), "scancel", limit_s=60
        )
        daemon.kill()
        crowd.let_go("end", "preempt")
        crowd.wait_for_line("end", "after")
        crowd.wait_for_line("preempt", "after")
    crowd.preempt("preempt-late")
    crowd.let_go("preempt-late")
    daemon.start()
    wait_for_log(slurm_site.api, crowd.ids["submit"], "before")
    crowd.let_go("run", "submit", "cancel")
    crowd.check("submit", "before", "after", status="exit code 4")
    crowd.check("run", "before", "after", status="exit code 4")
    for step in ("preempt", "preempt-late"):
        crowd.check(step, "before", "told", "after", status="'Preempted' (exit code 4)")
        log = "\n".join(fetch_log(slurm_site.api, crowd.ids[step]))
        assert log.count("(reason: preempted by the scheduler)") == 1, "the master heard of it once"
    # Slurm ends it by force 3 s after it was told, which may be before somebody takes its lines.
    crowd.check("cancel", "before", status="killed", may_lack=("told", "after"))
    crowd.check("end", "before", "after", status="exit code 4")
