"""A launcher that reaches its Slurm through an sshd, and loses that link at every step."""

from __future__ import annotations

import asyncio
import getpass
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from tests.lab import sshd as sshd_lab
from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import free_ports, is_alive, run, wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher, program
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd
from tests.launcher import commandline
from tests.launcher.go_master import GoMaster, Job, Refused
from tests.launcher.manifests import make_manifest
from tests.launcher.relay.master import TOKEN, StandInMaster

GATE = """#!/bin/sh
# {name} of Slurm, held up once where the file `before` or `after` says so.
cd {folder} || exit 9
case $1 in --version|--mpi*) exec {real} "$@" ;; esac
if rm before-{name} 2>/dev/null; then touch reached; sleep 120; fi
{real} "$@"
status=$?
if rm after-{name} 2>/dev/null; then touch reached; sleep 120; fi
exit $status
"""


class Gates:
    """Programs before Slurm's own on the login node's PATH, which wait where they are told to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        for name in ("sbatch", "scancel"):
            path = folder / name
            path.write_text(GATE.format(name=name, folder=folder, real=f"/usr/bin/{name}"))
            path.chmod(0o755)

    def close(self, moment: str) -> None:
        (self.folder / "reached").unlink(missing_ok=True)
        (self.folder / moment).touch()

    def wait(self) -> None:
        wait_until((self.folder / "reached").exists, "the program waits at its gate", limit_s=60)


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"path": request.path})


@pytest.fixture(scope="module")
def beyond() -> Iterator[StandInMaster]:
    """A master that takes what the relay delivers, in a thread of its own."""
    ready: Future[StandInMaster] = Future()
    ends: list[Callable[[], object]] = []

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        ends.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with StandInMaster() as stand_in:
            stand_in.answer = echo
            ready.set_result(stand_in)
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    yield ready.result(timeout=60)
    ends[0]()
    thread.join()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    found = new_folder("launcher")
    yield found
    remove_folder(found)


@pytest.fixture(scope="module")
def gates(folder: Path) -> Gates:
    return Gates(folder / "gates")


@pytest.fixture(scope="module")
def sshd(slurm: Slurm) -> Iterator[Sshd]:
    """The login node: the only place that says where Slurm's settings are."""
    require("sshd", sshd_lab.missing_programs())
    options = {"MaxSessions": "1", "SetEnv": f"SLURM_CONF={slurm.environment['SLURM_CONF']}"}
    with Sshd(new_folder("sshd"), options) as server:
        yield server


@pytest.fixture(scope="module")
def launcher(
    slurm: Slurm, sshd: Sshd, gates: Gates, folder: Path, beyond: StandInMaster
) -> Iterator[Launcher]:
    relay_port, jobs_port = free_ports(2)
    daemon = Launcher(
        folder,
        master_url=beyond.url,
        user=getpass.getuser(),
        environment={},
        config={
            "job_storage_root": str(folder / "cluster"),
            "state_dir": str(folder / "records"),
            "agent_command": [program("shipway-agent")],
            "path": f"{gates.folder}:${{PATH}}",
            "ssh": {**sshd.settings, "silence_s": 3, "relay_host": "127.0.0.1"},
            "relay": {
                "port": relay_port,
                "master": beyond.url,
                "advertised_url": f"http://localhost:{jobs_port}",
            },
            "watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 30},
            "slurm": {"settle_s": 20},
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        slurm.clear()
    assert "Traceback" not in daemon.log.read_text()


def manifest(*words: str, **more: Any) -> dict[str, Any]:
    """Return the manifest of an allocation of its own, whose token the master takes."""
    own = {"DET_SESSION_TOKEN": TOKEN, "DET_ALLOCATION_ID": f"{uuid.uuid4()}.1"}
    return make_manifest(words or ["/bin/sleep", "600"], environment=own, **more)


def jobs_named(slurm: Slurm, dispatch_id: str) -> list[str]:
    done = slurm.run(["squeue", "-h", "-t", "all", "-o", "%i %j"])
    return [line.split()[0] for line in done.stdout.splitlines() if line.endswith(dispatch_id)]


def wait_for_output(master: GoMaster, job: Job, text: bytes) -> None:
    wait_until(
        lambda: text in master.log(job, "output.log"),
        f"{job.dispatch_id} prints {text!r}",
        limit_s=60,
        logs=lambda: master.log(job, "error.log").decode(errors="replace"),
    )


def test_check_logs_in_and_names_what_is_wrong(
    launcher: Launcher, folder: Path, sshd: Sshd
) -> None:
    done = run([program("shipway-launcher"), "check", "--config", launcher.config], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    me = getpass.getuser()
    for line in (
        f"ok   ssh.host: {me} logs in on 127.0.0.1",
        f"ok   job_storage_root: {folder}/cluster on 127.0.0.1",
        f"ok   path: {folder}/gates/sbatch",
        "ok   agent_command: ",
        "ok   relay: sshd on 127.0.0.1 forwards a port to it",
        "ok   slurm: Slurm ",
    ):
        assert line in done.stdout, done.stdout
    settings = yaml.safe_load(launcher.config.read_text())
    (folder / "known").write_text("")
    settings["ssh"]["known_hosts_file"] = str(folder / "known")
    (folder / "wrong.yaml").write_text(yaml.safe_dump(settings))
    wrong = ("check", "--config", folder / "wrong.yaml")
    done = commandline.call(*wrong, environment=os.environ)
    assert done.returncode == 1
    assert "bad  ssh.host: the host key of 127.0.0.1 is not the one that is known" in done.stdout


def test_a_job_runs_and_its_records_stay_here(
    master: GoMaster, folder: Path, new_id: Callable[[], str]
) -> None:
    name = new_id()
    job = master.launch(manifest("/bin/sh", "-c", "echo far; exit 3"), name)
    assert master.wait(job) == "FAILED"
    assert "Job Exited with Exit Code 3" in job.task_log[-1]
    assert master.log(job, "output.log") == b"far\n"
    assert (folder / "records/dispatches" / name / "record.json").exists()
    assert list((folder / "cluster").iterdir()) == [folder / "cluster/jobs"]
    master.delete(job)
    assert not list((folder / "cluster").rglob(name))


def test_jobs_reach_the_master_by_the_relay_through_the_login_node(
    master: GoMaster, sshd: Sshd, new_id: Callable[[], str]
) -> None:
    """The second time through a link that was made anew."""
    script = (
        "import os, urllib.request as u;"
        "print(u.urlopen(os.environ['DET_MASTER'] + '/api/v1/far', timeout=30).read().decode())"
    )
    for _ in range(2):
        job = master.launch(manifest("/usr/bin/python3", "-c", script), new_id())
        assert master.wait(job) == "COMPLETED", job.task_log
        assert b'"path": "/api/v1/far"' in master.log(job, "output.log")
        sshd.cut()
        master.query("Resources")


@pytest.mark.parametrize("moment", ["before-sbatch", "after-sbatch"])
def test_a_link_cut_in_the_middle_of_sbatch_makes_one_job(
    master: GoMaster,
    slurm: Slurm,
    sshd: Sshd,
    gates: Gates,
    new_id: Callable[[], str],
    moment: str,
) -> None:
    name = new_id()
    gates.close(moment)
    job = launch_and(gates, master, name, sshd.cut)
    assert master.wait(job, "RUNNING") == "RUNNING"
    assert jobs_named(slurm, name) == [job.job_id]
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def launch_and(gates: Gates, master: GoMaster, name: str, what: Callable[[], None]) -> Job:
    """Launch a job, and do something while sbatch waits at its gate."""
    with ThreadPoolExecutor() as pool:
        launch: Future[Job] = pool.submit(master.launch, manifest(), name)
        gates.wait()
        what()
        return launch.result(timeout=60)


def test_a_frozen_link_is_found_and_replaced_and_makes_one_job(
    master: GoMaster, slurm: Slurm, sshd: Sshd, gates: Gates, new_id: Callable[[], str]
) -> None:
    """sshd is stopped in the middle of sbatch: TCP lives, and nothing comes through."""
    name = new_id()
    gates.close("after-sbatch")
    frozen: list[int] = []

    def freeze() -> None:
        frozen.extend(sshd.sessions())
        sshd.freeze()

    job = launch_and(gates, master, name, freeze)
    assert master.wait(job, "RUNNING") == "RUNNING"
    assert jobs_named(slurm, name) == [job.job_id]
    sshd.thaw()
    wait_until(lambda: not any(map(is_alive, frozen)), "the old link has gone", limit_s=60)
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_jobs_and_their_logs_outlive_the_link(
    master: GoMaster, sshd: Sshd, new_id: Callable[[], str]
) -> None:
    words = ["/bin/sh", "-c", "while sleep 0.1; do echo $((n += 1)); done"]
    job = master.launch(manifest(*words), new_id())
    wait_for_output(master, job, b"1\n")
    for count in (10, 20):
        sshd.cut()
        assert master.status(job)["state"] == "RUNNING"
        wait_for_output(master, job, f"{count}\n".encode())
    lines = master.log(job, "output.log").split()
    assert lines == [str(number + 1).encode() for number in range(len(lines))]
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_a_preemption_is_told_once_although_the_link_is_lost(
    master: GoMaster,
    slurm: Slurm,
    sshd: Sshd,
    beyond: StandInMaster,
    new_id: Callable[[], str],
) -> None:
    script = "trap 'sleep 1; exit 77' TERM; echo ready; while :; do sleep 0.2; done"
    wanted = manifest("/bin/sh", "-c", script, configuration={"queue": "cancel"})
    job = master.launch(wanted, new_id())
    wait_for_output(master, job, b"ready")
    whole = ["-p", "urgent", "-N4", "--exclusive", "-o/dev/null", "--wrap=sleep 5"]
    urgent = slurm.run(["sbatch", "--parsable", *whole]).stdout.strip()
    sshd.cut()
    assert master.wait(job) == "FAILED"
    assert "Slurm had announced its preemption at" in job.task_log[-1]
    environment = wanted["payloads"][0]["launchParameters"]["environment"]
    assert beyond.preemptions.count(environment["DET_ALLOCATION_ID"]) == 1
    slurm.run(["scancel", urgent])


@pytest.mark.parametrize("moment", ["before-scancel", "after-scancel"])
def test_a_cancel_survives_the_loss_of_the_link(
    master: GoMaster,
    slurm: Slurm,
    sshd: Sshd,
    gates: Gates,
    new_id: Callable[[], str],
    moment: str,
) -> None:
    job = master.launch(manifest(), new_id())
    master.wait(job, "RUNNING")
    gates.close(moment)
    with ThreadPoolExecutor() as pool:
        kill = pool.submit(master.kill, job)
        gates.wait()
        sshd.cut()
        kill.exception(timeout=60)  # it may be told that the link was lost; it is not forgotten
    assert master.wait(job) == "TERMINATED"
    assert job.job_id is not None
    assert slurm.job_states()[job.job_id] == "CANCELLED"


def test_a_job_that_ends_while_there_is_no_link_is_not_taken_for_lost(
    master: GoMaster, launcher: Launcher, sshd: Sshd, folder: Path, new_id: Callable[[], str]
) -> None:
    """Not even by a launcher that is started meanwhile."""
    flag = folder / f"go-{time.monotonic_ns()}"
    done = folder / f"done-{time.monotonic_ns()}"
    script = f"until [ -e {flag} ]; do sleep 0.1; done; echo the end; touch {done}; exit 4"
    data = [{"name": "ds0", "source": str(folder), "target": str(folder), "readOnly": False}]
    job = master.launch(manifest("/bin/sh", "-c", script, data=data), new_id())
    assert master.wait(job, "RUNNING") == "RUNNING"
    sshd.stop()
    try:
        flag.touch()
        wait_until(done.exists, "the job ends", limit_s=60)
        launcher.stop()
        launcher.start()
        assert master.status(job)["state"] == "RUNNING", "nobody could ask"
        with pytest.raises(Refused, match="nothing listens on 127"):
            master.launch(manifest(), new_id())
    finally:
        sshd.start()
    assert master.wait(job) == "FAILED"
    assert "Exit Code 4" in job.task_log[-1]
    assert master.log(job, "output.log") == b"the end\n"


def test_a_launcher_that_is_killed_finds_its_jobs_again(
    master: GoMaster, launcher: Launcher, slurm: Slurm, gates: Gates, new_id: Callable[[], str]
) -> None:
    name = new_id()
    gates.close("after-sbatch")
    with ThreadPoolExecutor() as pool:
        launch = pool.submit(master.launch, manifest(), name)
        gates.wait()
        launcher.kill()
        launch.exception(timeout=60)
    launcher.start()
    job = master.adopt(name)
    assert master.wait(job, "RUNNING") == "RUNNING"
    assert jobs_named(slurm, name) == [job.job_id]
    master.kill(job)
    assert master.wait(job) == "TERMINATED"
