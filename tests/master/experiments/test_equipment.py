"""What a trial has to reach its other nodes by ssh, and how its start looks after it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from shipway_master.allocations.ids import AllocationId, TaskId
from shipway_master.experiments.records import TrialRecord
from shipway_master.experiments.states import RunState
from shipway_master.experiments.trialequipment import TrialStart, equip_trial
from shipway_master.tasks.config import parse_config
from shipway_master.tasks.files import DIRECTORY_TYPE, TaskFile
from shipway_master.tasks.launch import AgentUser, Launch, Tcd, list_service_files
from shipway_master.tasks.ssh import make_key_pair
from tests.lab.det import program
from tests.lab.require import require

SSH_CONFIG = "/etc/ssh/ssh_config"
FIRST = '{"container_addrs": ["10.0.0.1", "10.0.0.2"], "container_rank": 0, "container_slot_counts": [1, 1]}'
SECOND = FIRST.replace('rank": 0', 'rank": 1')
ALONE = '{"container_addrs": ["10.0.0.1"], "container_rank": 0, "container_slot_counts": [1]}'
PYTHON = """#!/bin/sh
[ "$2" != determined.exec.launch ] || exec ls -d /run/sshd
"""


def list_files(*mounts: str) -> list[TaskFile]:
    """List what a trial with bind mounts at *mounts* has beside its user's files."""
    user = AgentUser(user="alice", uid=1000, gid=1000)
    trial = TrialRecord(
        id=1,
        experiment_id=1,
        request_id=None,
        hparams={},
        seed=1,
        started_at=datetime.now(UTC),
        state=RunState.ACTIVE,
        ports=[1, 2, 3, 4],
    )
    start = TrialStart(
        trial=trial,
        config={"profiling": {"enabled": False}},
        keys=make_key_pair(),
        has_startup_hook=False,
        checkpoint=None,
        steps_completed=0,
    )
    config = {
        "entrypoint": ["true"],
        "bind_mounts": [{"host_path": "/data", "container_path": path} for path in mounts],
    }
    launch = Launch(
        task_id=TaskId("1.9d0c"),
        task_type="TRIAL",
        allocation_id=AllocationId("1.9d0c.1"),
        label="exp-1-trial-1-attempt-1",
        owner="alice",
        config=parse_config(config),
        tcd=Tcd(),
        agent_user=user,
        token="secret",
        files=[],
        equipment=equip_trial(start, user),
    )
    return list_service_files(launch)


def write_files(folder: Path) -> None:
    """Write what a trial has into a folder that stands for the root of its container."""
    for file in list_files():
        place = folder / file.path.lstrip("/")
        if file.type == DIRECTORY_TYPE:
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
            place.chmod(file.mode)


@pytest.mark.parametrize(
    ("mount", "is_covered"),
    [
        ("/etc", True),
        ("/etc/ssh/", True),
        (SSH_CONFIG, True),
        ("../../../etc/ssh", True),
        ("/etc/ssh/ssh_config.d", False),
        ("/etc/ssh2", False),
        ("/run/determined/ssh", False),
        ("data", False),
    ],
)
def test_the_ssh_config_is_not_written_into_a_mount(mount: str, *, is_covered: bool) -> None:
    files = {file.path: file for file in list_files("/data", mount)}
    assert "/run/determined/ssh/id_rsa" in files
    assert (SSH_CONFIG not in files) == is_covered


def test_ssh_reads_the_config_as_it_is_meant(tmp_path: Path) -> None:
    require("the test of ssh_config", [] if shutil.which("ssh") else ["ssh"])
    [file] = [file for file in list_files() if file.path == SSH_CONFIG]
    assert (file.mode, file.uid, file.gid) == (0o644, 0, 0)
    config = tmp_path / "ssh_config"
    config.write_bytes(file.content)
    argv = ["ssh", "-G", "-F", str(config), "10.0.0.2"]
    words = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    identities = [line.partition(" ")[2] for line in words if line.startswith("identityfile ")]
    assert identities[0] == "/run/determined/ssh/id_rsa"
    assert "~/.ssh/id_ed25519" in identities, "the user's own are used as ever"
    assert {"stricthostkeychecking false", "userknownhostsfile /dev/null"} <= set(words)


class _Restarted(BaseHTTPRequestHandler):
    """A master that goes away in the middle of the first request that it is posted."""

    posts: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer that the caller is known."""
        self._answer(b'{"user": {"username": "u", "admin": false, "active": true}}')

    def do_POST(self) -> None:
        """Hang up on the first one."""
        self.posts.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        if len(self.posts) > 1:
            self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_the_start_of_a_trial_goes_on_where_the_master_is_restarted(tmp_path: Path) -> None:
    python = program().with_name("python")
    missing = [] if python.exists() else ["the package determined"]
    require("the harness", missing + ([] if shutil.which("bwrap") else ["bwrap"]))
    write_files(tmp_path)
    (tmp_path / "run/determined/info").mkdir()
    variables = {
        **dict.fromkeys(("DET_CLUSTER_ID", "DET_AGENT_ID", "DET_TASK_ID", "DET_USER"), "x"),
        "DET_SLOT_IDS": "[0]",
        "DET_TASK_TYPE": "COMMAND",
        "DET_SESSION_TOKEN": "t",
        "DET_ALLOCATION_ID": "x.1",
        "HOME": "/run",
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), _Restarted) as master:
        threading.Thread(target=master.serve_forever).start()
        variables["DET_MASTER"] = f"http://127.0.0.1:{master.server_port}"
        try:
            done = subprocess.run(
                [
                    *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/run"),
                    *("--bind", str(tmp_path / "run/determined"), "/run/determined"),
                    *(str(python), "/run/determined/train/prepare.py", "--resources"),
                ],
                check=False,
                capture_output=True,
                text=True,
                env=variables,
            )
        finally:
            master.shutdown()
    assert done.returncode == 0, done.stderr
    assert "the master went away, and is asked again" in done.stderr
    assert _Restarted.posts == ["/api/v1/allocations/x.1/acceleratorData"] * 2


def test_an_image_without_the_harness_is_told_of(tmp_path: Path) -> None:
    write_files(tmp_path)
    argv = [sys.executable, "-S", str(tmp_path / "run/determined/train/prepare.py")]
    env = {"PATH": f"/base/bin:{tmp_path}:/of/the/harness/bin", "PYTHONUSERBASE": "/base"}
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 127
    first, *others = done.stderr.splitlines()
    assert "a trial needs the Python package determined" in first
    assert others == ["there is no folder /of/the/harness/bin here, which PATH names"]


@pytest.mark.parametrize(
    ("met", "has_config", "is_told", "makes_folder"),
    [
        (ALONE, False, False, False),
        (FIRST, True, False, True),
        (FIRST, False, True, True),
        (SECOND, False, False, True),
    ],
    ids=["one node", "several nodes", "several nodes without it", "another of several"],
)
def test_the_start_of_a_trial_looks_after_ssh(
    tmp_path: Path, *, met: str, has_config: bool, is_told: bool, makes_folder: bool
) -> None:
    require("the start of a trial", [] if shutil.which("bwrap") else ["bwrap"])
    write_files(tmp_path)
    run_dir = tmp_path / "run/determined"
    (run_dir / "info").mkdir()
    (run_dir / "info/rendezvous.json").write_text(met)
    (run_dir / "python").write_text(PYTHON)
    (run_dir / "python").chmod(0o755)
    foreign = tmp_path / "foreign"
    foreign.write_text("Host *\n    IdentityFile ~/.ssh/id_rsa\n")
    config = tmp_path / SSH_CONFIG.lstrip("/") if has_config else foreign
    done = subprocess.run(
        [
            *("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid"),
            *("--tmpfs", "/run", "--bind", str(run_dir), "/run/determined"),
            *("--tmpfs", "/etc", "--ro-bind", str(config), SSH_CONFIG),
            *("--setenv", "PYTHONUSERBASE", "/run/determined/pythonuserbase"),
            *("--setenv", "DET_PYTHON_EXECUTABLE", "/run/determined/python"),
            "/run/determined/train/entrypoint.sh",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (f"{SSH_CONFIG} is not the trial's" in done.stderr) == is_told
    if os.geteuid() == 0:  # whose sshd needs it
        assert (done.stdout == "/run/sshd\n") == makes_folder
