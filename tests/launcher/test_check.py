"""What `check` says of folders, files and rights, each with its key."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.require import require
from tests.launcher import commandline


def check(folder: Path, **settings: Any) -> str:
    """Run it, with a Slurm that is not there."""
    config = folder / "launcher.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "user_name": getpass.getuser(),
                "job_storage_root": str(folder / "storage"),
                "slurm": {"bin_dir": str(folder)},
                **settings,
            }
        )
    )
    done = commandline.call("check", "--config", config, environment=os.environ)
    assert done.returncode == 1, done.stderr
    return done.stdout


def test_files_and_folders_that_are_only_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shown = check(
        tmp_path,
        apptainer_image_root=str(tmp_path / ("images" * 50)),
        auth_file=str(tmp_path / "file/token"),
        relay_dir=str(tmp_path / "file/relay"),
        state_dir=str(tmp_path / "state"),
        slurm={"bin_dir": str(tmp_path), "conf_file": str(tmp_path / "slurm.conf")},
    )
    for line in (
        f"warn apptainer_image_root: {tmp_path}/{'images' * 50} is no folder that this user can read",
        f"bad  relay_dir: this user cannot write into {tmp_path}/file",
        f"ok   state_dir: {tmp_path}/state (",
        f"job_storage_root: {tmp_path}/storage ",
        f"bad  slurm.conf_file: this user cannot read {tmp_path}/slurm.conf, or it is not there",
    ):
        assert line in shown, shown


def test_the_way_of_other_users_to_their_jobs(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    root = tmp_path / "closed/storage"
    line = f"cannot pass through {tmp_path}/closed to the folders of their jobs; chmod o+x"
    assert line in check(tmp_path, job_storage_root=str(root), impersonation="sudo")
    assert "cannot pass" not in check(tmp_path, job_storage_root=str(root))


@pytest.mark.skipif(os.geteuid() != 0, reason="root may act for others without a rule")
def test_each_user_whom_the_launcher_is_to_act_for_is_tried(tmp_path: Path) -> None:
    require("sudo", [name for name in ("sudo",) if shutil.which(name) is None])
    settings: dict[str, Any] = {"impersonation": "sudo", "sudo_authorized": "nobody,no-such"}
    shown = check(tmp_path, **settings, sudo_helper=["sh", "-c", "echo null"])
    assert f"ok   impersonation: {getpass.getuser()} acts as nobody" in shown, shown
    assert "bad  impersonation: impersonate: there is no user no-such on this machine" in shown
    shown = check(tmp_path, **settings, sudo_helper=["sh", "-c", "echo no >&2; exit 1"])
    assert "bad  impersonation: cannot status " in shown, shown
    assert "as nobody: no; see `shipway-launcher sudoers`" in shown
    everybody = check(tmp_path, impersonation="sudo")
    assert f"ok   impersonation: sudo has rules for {getpass.getuser()}" in everybody
