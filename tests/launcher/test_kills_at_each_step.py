"""One process is killed while five jobs are each at another step of their life.

Each test has a job that is being submitted, one that runs, one that Slurm preempts, one that is
being cancelled and one that ends meanwhile; each on a node of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab import slurm as slurm_lab
from tests.lab.folders import new_folder
from tests.lab.processes import pid_in, wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher, frozen
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster, Job, Refused
from tests.launcher.killing import kill, processes, running_launcher, wait_until_asked
from tests.launcher.manifests import make_manifest

STEPS = {"submit": "n1", "run": "n2", "preempt": "n3", "cancel": "n4", "end": "n5"}
TASK = "trap 'echo told' TERM; echo ready; until [ -e {gate} ]; do sleep 0.1; done; exit 5"


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A Slurm of this module's own, because its daemons are killed; a node for each step."""
    require("Slurm", slurm_lab.missing_programs())
    with Slurm(new_folder("slurm"), nodes=len(STEPS), grace_s=300) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher that looks often, and leaves those who were cancelled their time."""
    with running_launcher(slurm, interval_s=0.5, missing_after_s=5, kill_after_s=30) as daemon:
        yield daemon


class Crowd:
    """The jobs, and the files that let them go."""

    def __init__(
        self, master: GoMaster, slurm: Slurm, folder: Path, new_id: Callable[[], str]
    ) -> None:
        self._master, self._slurm, self._folder = master, slurm, folder
        self.names = {step: new_id() for step in STEPS}
        self.jobs: dict[str, Job] = {}

    def launch(self, step: str) -> Job:
        """Launch the job of *step* on its node."""
        folder = str(self._folder)
        data = [{"name": "gates", "source": folder, "target": folder, "readOnly": True}]
        words = ["/bin/sh", "-c", TASK.format(gate=self._folder / step)]
        arguments = ["--mem=50", f"--nodelist={STEPS[step]}"]
        manifest = make_manifest(words, data=data, slurm_arguments=arguments)
        self.jobs[step] = self._master.launch(manifest, self.names[step])
        return self.jobs[step]

    def launch_running(self) -> None:
        """Launch all but the one to be submitted, and wait until their tasks run."""
        steps = [step for step in STEPS if step != "submit"]
        for step in steps:
            self.launch(step)
        for step in steps:
            self.wait_for_output(step, b"ready\n")
            self._master.wait(self.jobs[step], "RUNNING")

    def preempt(self) -> None:
        """Let Slurm preempt the job that is there for it."""
        node = ["-purgent", f"-w{STEPS['preempt']}", "--exclusive"]
        self._slurm.run(["sbatch", *node, "-o/dev/null", "--wrap=sleep 600"])

    def let_go(self, *steps: str) -> None:
        """Let the tasks of *steps* end with 5."""
        for step in steps:
            (self._folder / step).touch()

    def wait_for_output(self, step: str, text: bytes) -> None:
        """Wait until the output of a job is exactly *text*."""
        job = self.jobs[step]
        wait_until(
            lambda: self._master.log(job, "output.log") == text,
            f"{step}: the output is {text!r}",
            limit_s=60,
            logs=lambda: repr(
                [self._master.log(job, f"{name}.log") for name in ("output", "error")]
            ),
        )

    def check(self, step: str, state: str, *words: str, output: bytes | None) -> None:
        """Check the end that the master is told of a job, its output if given, and that it ran once."""
        job = self.jobs[step]
        assert self._master.wait(job) == state, job.task_log
        for word in words:
            assert word in job.task_log[-1], job.task_log[-1]
        assert output in (None, self._master.log(job, "output.log"))
        named = self._slurm.run(["squeue", "-h", "-t", "all", "-o", "%i %j"]).stdout.splitlines()
        ids = [line.split()[0] for line in named if line.endswith(job.dispatch_id)]
        assert ids == [job.job_id]

    def close(self) -> None:
        """Leave nothing behind."""
        self.let_go(*STEPS)
        self._slurm.clear()


@pytest.fixture
def crowd(
    master: GoMaster, slurm: Slurm, tmp_path: Path, new_id: Callable[[], str]
) -> Iterator[Crowd]:
    """The four jobs that run; the fifth is launched by the test."""
    found = Crowd(master, slurm, tmp_path, new_id)
    found.launch_running()
    yield found
    found.close()


def test_the_controller_is_killed_at_each_step(
    crowd: Crowd, master: GoMaster, slurm: Slurm, storage: Path
) -> None:
    """While it does not answer sbatch and scancel, which have reached it."""
    crowd.preempt()
    crowd.wait_for_output("preempt", b"ready\ntold\n")
    # What the controller has not saved it does not know when it comes back.
    began, saved = time.time(), slurm.folder / "state/job_state"
    slurm.run(["scontrol", "update", f"JobId={crowd.jobs['run'].job_id}", "Nice=1"])
    wait_until(lambda: saved.stat().st_mtime >= began, "the state is saved", limit_s=60)
    controller = pid_in(slurm.folder / "run/slurmctld.pid")
    assert controller is not None
    with ThreadPoolExecutor() as pool:
        with frozen(controller):
            cancel = pool.submit(master.kill, crowd.jobs["cancel"])
            submit: Future[Job] = pool.submit(crowd.launch, "submit")
            wait_for_record(storage, crowd.names["submit"], "submission", "submitting")
            wait_for_record(storage, crowd.names["cancel"], "terminate_requested_at")
            wait_until_asked(slurm, "sbatch", "scancel")
            kill(controller)
        crowd.let_go("end")
        wait_until(lambda: not processes(crowd.jobs["end"], "until ["), "the end", limit_s=60)
        slurm.restart_controller()
        refusal = submit.exception(timeout=60)
        if isinstance(refusal, Refused):  # it was seen to be down, so there is no job
            assert "controller does not answer" in refusal.task_log_text
            crowd.launch("submit")
        else:
            submit.result()
        with suppress(Refused):  # that Slurm did not answer; it is not forgotten
            cancel.result(timeout=60)
    crowd.let_go("submit", "run", "preempt", "cancel")
    crowd.check("submit", "FAILED", "Exit Code 5\n", output=b"ready\n")
    crowd.check("run", "FAILED", "Exit Code 5\n", output=b"ready\n")
    crowd.check("preempt", "FAILED", "'Preempted'", output=b"ready\ntold\n")
    crowd.check("cancel", "TERMINATED", output=b"ready\ntold\n")
    crowd.check("end", "FAILED", "Exit Code 5\n", output=b"ready\n")


def test_the_node_daemons_are_killed_at_each_step(
    crowd: Crowd, master: GoMaster, slurm: Slurm
) -> None:
    """They come back before Slurm gives the nodes up."""
    for node in STEPS.values():
        kill(pid_in(slurm.folder / f"run/slurmd-{node}.pid"))
    crowd.preempt()
    master.kill(crowd.jobs["cancel"])
    crowd.launch("submit")
    crowd.let_go("end")
    wait_until(lambda: not processes(crowd.jobs["end"], "until ["), "the end", limit_s=60)
    for node in STEPS.values():
        slurm.start_node(node)
    crowd.let_go("run")
    crowd.wait_for_output("submit", b"ready\n")
    crowd.let_go("submit")
    crowd.check("submit", "FAILED", "Exit Code 5\n", output=b"ready\n")
    crowd.check("run", "FAILED", "Exit Code 5\n", output=b"ready\n")
    crowd.check("end", "FAILED", "Exit Code 5\n", output=b"ready\n")
    crowd.wait_for_output("cancel", b"ready\ntold\n")
    crowd.wait_for_output("preempt", b"ready\ntold\n")
    crowd.let_go("preempt", "cancel")
    crowd.check("cancel", "TERMINATED", output=b"ready\ntold\n")
    crowd.check("preempt", "FAILED", "'Preempted'", output=b"ready\ntold\n")


def test_the_jobs_agents_are_killed_at_each_step(crowd: Crowd, master: GoMaster) -> None:
    """The first before its task runs, the last when its task has ended."""
    crowd.preempt()
    master.kill(crowd.jobs["cancel"])
    crowd.wait_for_output("preempt", b"ready\ntold\n")
    crowd.wait_for_output("cancel", b"ready\ntold\n")
    job = crowd.launch("submit")
    master.poll(job)  # tells its id
    wait_until(lambda: agents(job), "its agent starts", limit_s=60, interval_s=0.01)
    for step in ("submit", "run", "preempt", "cancel"):
        for pid in agents(crowd.jobs[step]):
            kill(pid)
    crowd.let_go("end")
    wait_until(lambda: not processes(crowd.jobs["end"], "until ["), "the end", limit_s=60)
    for pid in agents(crowd.jobs["end"]):
        kill(pid)
    # Killed as soon as it is seen; a task that it has started by then ends with it.
    crowd.check("submit", "FAILED", "SIGKILL", output=None)
    assert master.log(job, "output.log") in (b"", b"ready\n")
    crowd.check("run", "FAILED", "SIGKILL", output=b"ready\n")
    crowd.check("preempt", "FAILED", "'Preempted'", output=b"ready\ntold\n")
    crowd.check("cancel", "TERMINATED", output=b"ready\ntold\n")
    crowd.check("end", "FAILED", output=b"ready\n")
    told = crowd.jobs["end"].task_log[-1]
    assert "Exit Code 5\n" in told or "SIGKILL" in told, "whichever was first"
    for job in crowd.jobs.values():
        gone = f"the task of {job.dispatch_id} ends"
        wait_until(lambda job=job: not processes(job, "until ["), gone, limit_s=60)  # type: ignore[misc]


def agents(job: Job) -> list[int]:
    return processes(job, "shipway-agent\0job\0")


def wait_for_record(storage: Path, name: str, key: str, value: str | None = None) -> None:
    """Wait until the record of a dispatch has *value*, or any, under *key*."""
    path = storage / "dispatches" / name / "record.json"

    def is_noted() -> bool:
        found = json.loads(path.read_text())[key] if path.exists() else None
        return found is not None and value in (None, found)

    wait_until(is_noted, f"{name} has {key}", limit_s=60)
