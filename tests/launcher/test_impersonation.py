"""Jobs of another user, by sudo, on a real Slurm."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shipway_launcher
from tests.lab.folders import new_folder
from tests.lab.processes import run, wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher, program
from tests.lab.slurm import Slurm
from tests.launcher.api.rest import Rest
from tests.launcher.go_master import GoMaster, Refused
from tests.launcher.manifests import make_archive, make_manifest

OTHER = "nobody"

# What runs on the node here: this checkout's agent is out of reach for a user without rights.
AGENT = """#!/bin/sh
echo "$1 as $(id -un) in $(pwd) with $(ls -l "$2" | cut -c1-10)"
cat "$(dirname "$2")/volume/run/determined/greeting"
[ ! -e "$(dirname "$2")/volume/run/determined/wait" ] || exec sleep 600
"""


@pytest.fixture(scope="module")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher that may act for others."""
    if os.geteuid() != 0:
        pytest.skip("acting for another user needs root")
    missing = [name for name in ("sudo", "/usr/bin/python3") if shutil.which(name) is None]
    require("sudo", missing)
    folder = new_folder("launcher")
    package = folder / "package/shipway_launcher"
    shutil.copytree(Path(shipway_launcher.__file__).parent, package)
    agent = folder / "agent"
    agent.write_text(AGENT)
    for path in (agent, package.parent, package, *package.rglob("*")):
        path.chmod(0o755)
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "impersonation": "sudo",
            "sudo_helper": [
                *("env", f"PYTHONPATH={package.parent}"),
                *("/usr/bin/python3", "-m", "shipway_launcher.transport.helper"),
            ],
            "agent_command": [str(agent)],
            "watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 3},
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        slurm.clear()
        shutil.rmtree(folder)


def test_job_and_files_belong_to_the_user(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm, storage: Path
) -> None:
    archive = make_archive(("/run/determined/greeting", b"hello\n", 0o600))
    job = master.launch(make_manifest(archives=[archive]), new_id(), user=OTHER)
    assert job.owner == OTHER
    assert master.wait(job) == "COMPLETED", job.task_log
    said = master.log(job, "output.log").decode()
    assert said == f"job as {OTHER} in /var/tmp with -rw-------\nhello\n"
    folder = storage / "jobs/environments" / OTHER / job.dispatch_id
    owner = pwd.getpwnam(OTHER).pw_uid
    assert {path.lstat().st_uid for path in (folder, *folder.rglob("*"))} == {owner}
    assert folder.stat().st_mode & 0o777 == 0o700
    users = slurm.run(["squeue", "-h", "-t", "all", "-o", "%j %u"]).stdout.splitlines()
    assert next(line for line in users if job.dispatch_id in line).endswith(f" {OTHER}")
    master.delete(job)
    assert not folder.exists()
    assert master.poll(job) == "lost"


def test_a_job_of_the_user_is_cancelled(master: GoMaster, new_id: Callable[[], str]) -> None:
    files = [("/run/determined/greeting", b"up\n", 0o600), ("/run/determined/wait", b"", 0o600)]
    job = master.launch(make_manifest(archives=[make_archive(*files)]), new_id(), user=OTHER)
    wait_until(lambda: b"up" in master.log(job, "output.log"), "the job runs", limit_s=60)
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_a_user_who_is_not_there_is_refused(master: GoMaster, new_id: Callable[[], str]) -> None:
    with pytest.raises(Refused) as refusal:
        master.launch(make_manifest(), new_id(), user="no-such-user")
    assert (
        refusal.value.task_log_text == "impersonate: there is no user no-such-user on this machine"
    )


def test_the_launchers_own_jobs_need_no_sudo(master: GoMaster, new_id: Callable[[], str]) -> None:
    archive = make_archive(("/run/determined/greeting", b"own\n", 0o600))
    job = master.launch(make_manifest(archives=[archive]), new_id())
    assert master.wait(job) == "COMPLETED", job.task_log
    assert master.log(job, "output.log").startswith(f"job as {getpass.getuser()} ".encode())


def test_a_users_own_token_is_for_jobs_and_logs_of_that_user(
    launcher: Launcher, new_id: Callable[[], str]
) -> None:
    words = ["token", "create", "--user", OTHER, "--config", str(launcher.config)]
    rest = Rest(launcher.url, run([program("shipway-launcher"), *words]).stdout.strip())
    name = new_id()
    archive = make_archive(("/run/determined/greeting", b"mine\n", 0o600))
    manifest = make_manifest(archives=[archive])
    answer = rest("PUT", f"/launch?impersonate={OTHER}&dispatchId={name}", manifest)
    assert (answer.status, json.loads(answer.body)["launchingUser"]) == (201, OTHER)
    one = f"/monitoring/{OTHER}/environments/{name}"
    wait_until(
        lambda: rest.json(f"{one}/status?refresh=true")["state"] == "COMPLETED",
        "the job completes",
        limit_s=60,
    )
    (sources,) = rest.json(f"{one}/logs").values()
    (output,) = [each["name"] for each in sources if each["king"] == "stdout"]
    assert rest("GET", f"{one}/logs/{output}").body.endswith(b"\nmine\n")
    assert rest("GET", f"{one}/logs/{output}", headers={"Range": "lines=-1"}).body == b"mine\n"
    assert rest("DELETE", f"{one}/logs/{output}").status == 204
    assert rest("GET", f"{one}/logs/{output}").body == b""
    assert rest("PUT", f"/launch?impersonate={getpass.getuser()}", manifest).status == 403


def test_all_of_one_owner_end_and_go(
    launcher: Launcher, new_id: Callable[[], str], slurm: Slurm
) -> None:
    rest = Rest(launcher.url, launcher.token_file.read_text())
    files = [("/run/determined/greeting", b"up\n", 0o600), ("/run/determined/wait", b"", 0o600)]
    manifest = make_manifest(archives=[make_archive(*files)])
    own, *others = [new_id() for _ in range(3)]
    assert rest("PUT", f"/launch?impersonate=&dispatchId={own}", manifest).status == 201
    for name in others:
        assert rest("PUT", f"/launch?impersonate={OTHER}&dispatchId={name}", manifest).status == 201
    assert rest("DELETE", f"/running/{OTHER}?force=true").status == 204
    assert rest.json(f"/running/{OTHER}")["data"] == []
    ended = {
        info["dispatchId"]: info["state"] for info in rest.json(f"/terminated/{OTHER}")["data"]
    }
    assert [ended[name] for name in others] == ["TERMINATED"] * 2
    assert rest("DELETE", f"/terminated/{OTHER}").status == 204
    assert rest.json(f"/terminated/{OTHER}")["data"] == []
    mine = f"{getpass.getuser()}/environments/{own}"
    assert rest.json(f"/monitoring/{mine}/status?refresh=true")["state"] in ("PENDING", "RUNNING")
    assert rest("DELETE", f"/monitoring/{mine}/management").status == 204
