"""The command line, as people use it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.lab.processes import free_ports, wait_until
from tests.lab.shipway import Launcher, program
from tests.lab.slurm import Slurm
from tests.launcher import commandline
from tests.launcher.go_master import GoMaster
from tests.launcher.manifests import make_manifest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(launcher: Launcher, slurm: Slurm) -> Run:
    """Run a subcommand with the settings of the running launcher."""

    def call(name: str, *arguments: str, text: str | None = None, status: int = 0) -> object:
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        done = commandline.call(
            *(name, "--config", launcher.config, *arguments),
            environment={"PATH": path, "COLUMNS": "200", **slurm.environment},
            text=text,
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done

    return call  # type: ignore[return-value]


def test_a_manifest_is_submitted_listed_shown_and_cancelled(
    run: Run, master: GoMaster, tmp_path: Path
) -> None:
    words = ["/bin/sh", "-c", "echo out; echo err >&2; exec sleep 600"]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(make_manifest(words)))
    assert run("submit", str(path), "--id", "by-hand.1").stdout == "by-hand.1\n"
    job = master.adopt("by-hand.1")
    for name, text in (("output.log", b"out"), ("error.log", b"err")):
        wait_until(
            lambda name=name, text=text: text in master.log(job, name),  # type: ignore[misc]
            f"{name} comes",
            limit_s=60,
        )
    wait_until(lambda: master.status(job)["state"] == "RUNNING", "it is seen to run", limit_s=60)
    listed = run("ps").stdout
    assert "by-hand.1" in listed
    assert "RUNNING" in listed
    shown = run("logs", "by-hand.1")
    assert shown.stdout == "out\n"
    assert "err\n" in shown.stderr
    assert run("logs", "by-hand.1", "--log", "script", "-n", "1").stdout == 'exit "$status"\n'
    assert run("cancel", "by-hand.1", "--wait").stdout == "TERMINATED\n"
    assert "by-hand.1" not in run("ps").stdout
    assert "TERMINATED" in run("ps", "--all").stdout


def test_a_manifest_on_standard_input(run: Run, master: GoMaster) -> None:
    name = run("submit", "-", text=json.dumps(make_manifest())).stdout.strip()
    assert master.wait(master.adopt(name)) == "COMPLETED"


def test_a_dry_run_prints_the_script_and_needs_no_launcher(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(make_manifest(slurm_arguments=["--time=5"])))
    script = run("submit", "--dry-run", str(path)).stdout
    assert script == run("submit", "--dry-run", str(path)).stdout
    assert script.startswith("#!/bin/bash\n")
    assert "#SBATCH --time=5\n" in script
    assert "session-token" not in script
    assert "dry-run" not in run("ps", "--all").stdout


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("{}", "manifestVersion: Field required"),
        ("nonsense", "not JSON"),
        (json.dumps(make_manifest(slurm_arguments=["--wrap=id"])), "--wrap is not configurable"),
        (json.dumps(make_manifest(configuration={"queue": "nosuch"})), "invalid partition"),
    ],
)
def test_a_refusal_is_told_in_one_line(run: Run, manifest: str, said: str) -> None:
    done = run("submit", "-", text=manifest, status=1)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_dispatch(run: Run) -> None:
    for command in ("logs", "cancel"):
        assert "there is no dispatch nothing" in run(command, "nothing", status=1).stderr


def test_resources_are_shown(run: Run) -> None:
    shown = run("resources").stdout
    for word in ("gpu*", "urgent", "n1", "unconfigured"):
        assert word in shown
    found = json.loads(run("resources", "--json").stdout)
    assert [row["name"] for row in found["nodes"]] == ["n1", "n2", "n3", "n4"]


def test_check_is_content_with_a_working_launcher(run: Run) -> None:
    shown = run("check").stdout
    assert "bad" not in shown
    assert "ok   slurm: Slurm " in shown
    assert "partitions gpu, cancel, urgent; 4 nodes" in shown


def test_check_names_each_fault_with_its_key(launcher: Launcher, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    token.chmod(0o644)
    root = tmp_path / "root"
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    config = tmp_path / "launcher.yaml"
    faults = {
        "user_name": "nobody",
        "auth_file": str(token),
        "job_storage_root": str(root),
        "slurm": {"bin_dir": str(tmp_path)},
        "agent_command": [str(tmp_path / "no-agent")],
        "host": "0.0.0.0",
        "relay": {"host": "0.0.0.0", "tls": {"certificate_file": str(tmp_path / "none.pem")}},
    }
    config.write_text(yaml.safe_dump(faults))
    done = subprocess.run(
        [program("shipway-launcher"), "check", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    for line in (
        "bad  user_name: the launcher is to run as nobody",
        f"bad  job_storage_root: others may write into {root}",
        f"bad  auth_file: {token} has mode 0644",
        "bad  path: there is no sbatch",
        "bad  agent_command: there is no program",
        "warn host: 0.0.0.0 is reached from outside",
        "warn relay.host: 0.0.0.0 is reached from outside, and the tokens of jobs",
        f"bad  relay.tls.certificate_file: {tmp_path}/none.pem: ",
    ):
        assert line in done.stdout, done.stdout


def test_wrong_settings_are_listed_with_their_keys(tmp_path: Path) -> None:
    config = tmp_path / "launcher.yaml"
    config.write_text("port: many\nhots: x\n")
    done = subprocess.run(
        [program("shipway-launcher"), "serve", "--config", config],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == os.EX_CONFIG
    assert "port: " in done.stderr
    assert "hots: " in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_launcher_the_commands_say_so(launcher: Launcher, tmp_path: Path) -> None:
    settings = yaml.safe_load(launcher.config.read_text())
    (settings["port"],) = free_ports(1)
    config = tmp_path / "launcher.yaml"
    config.write_text(yaml.safe_dump(settings))
    done = commandline.call("ps", "--config", config, environment=os.environ)
    assert done.returncode == 1
    assert "is `shipway-launcher serve` running?" in done.stderr
