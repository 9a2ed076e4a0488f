"""The launcher's unit under a real systemd, installed as docs/launcher.md says."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.lab.processes import free_ports, wait_until
from tests.lab.systemd import Systemd
from tests.systemd.conftest import FILES, configure_daemon, install, read_commands

UNIT = "shipway-launcher.service"
_SETTINGS = "/etc/shipway/launcher.yaml"
_DROP_INS = f"/etc/systemd/system/{UNIT}.d"
_MASTER = "/etc/shipway/master.yaml"
_CLEAN = f"""
systemctl stop {UNIT}
systemctl reset-failed
rm -rf {_DROP_INS} {_MASTER} /etc/default/shipway-launcher /var/lib/shipway/* /var/lib/shipway/.launcher
systemctl daemon-reload
"""

Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def installed(machine: Systemd) -> Systemd:
    """A machine with the launcher."""
    install(machine, read_commands("launcher.md", "### As a service")[:-1])
    return machine


@pytest.fixture
def configure(installed: Systemd) -> Iterator[Configure]:
    """Write the settings file; the unit is not started yet."""

    def write(**settings: Any) -> dict[str, Any]:
        (port,) = free_ports(1)
        full = {"port": port, "relay": {"enabled": False}, **settings}
        configure_daemon(installed, UNIT, _SETTINGS, full, group="shipway")
        return full

    yield write
    installed.run("sh", "-c", _CLEAN, check=False)


def test_it_counts_as_started_when_it_listens_and_says_what_it_does(
    installed: Systemd, configure: Configure
) -> None:
    configure(auth_file="/var/lib/shipway/launcher.token")
    installed.ctl("start", UNIT)
    pid, text = installed.show(UNIT, "MainPID", "StatusText")
    assert text.startswith("0 jobs, Slurm ")
    token = installed.run("stat", "-c", "%U %a", "/var/lib/shipway/launcher.token").stdout
    assert token == "shipway 600\n", "made before the unit counts as started"
    root = installed.run("stat", "-c", "%U %a", "/var/lib/shipway/.launcher/dispatches").stdout
    assert root == "shipway 700\n"
    status = installed.run("cat", f"/proc/{pid}/status").stdout
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    installed.ctl("stop", UNIT)
    assert installed.show(UNIT, "Result", "ExecMainStatus") == ["success", "0"]


def test_after_a_crash_it_is_back_with_the_same_token(
    installed: Systemd, configure: Configure
) -> None:
    configure()
    installed.ctl("start", UNIT)
    file = "/var/lib/shipway/.launcher/launcher.token"
    before = installed.run("cat", file).stdout
    installed.ctl("kill", "--kill-who=main", f"--signal={int(signal.SIGKILL)}", UNIT)
    wait_until(
        lambda: installed.show(UNIT, "NRestarts", "ActiveState") == ["1", "active"],
        "it is back",
        limit_s=60,
        interval_s=0.3,
        logs=lambda: installed.journal(UNIT, "--lines=40"),
    )
    assert installed.run("cat", file).stdout == before


def test_wrong_settings_are_told_once_and_not_tried_again(
    installed: Systemd, configure: Configure
) -> None:
    configure(hots="x", watch={"interval_s": -1})
    installed.ctl("start", UNIT, check=False)
    state = installed.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    assert state == ["failed", "78", "0"]
    (invocation,) = installed.show(UNIT, "InvocationID")
    errors = installed.journal(UNIT, "--priority=err", f"_SYSTEMD_INVOCATION_ID={invocation}")
    assert "hots: unknown key; did you mean host?" in errors
    assert "watch.interval_s: " in errors


def test_it_takes_the_keys_of_a_masters_file(installed: Systemd, configure: Configure) -> None:
    (port,) = free_ports(1)
    settings = configure()
    del settings["port"]
    installed.write(_SETTINGS, yaml.safe_dump(settings), mode="644")
    section = {
        "type": "slurm",
        "host": "login1",
        "port": port,
        "master_host": "master1",
        "user_name": "shipway",
        "job_storage_root": "/var/lib/shipway/storage",
        "launcher_jvm_args": "-Xms1024m",
    }
    installed.write(_MASTER, yaml.safe_dump({"resource_manager": section}))
    option = f"LAUNCHER_OPTIONS=--master-config={_MASTER}\n"
    installed.write("/etc/default/shipway-launcher", option)
    installed.ctl("start", UNIT)
    log = installed.journal(UNIT, "--lines=20")
    assert f"127.0.0.1:{port}" in log
    owner = installed.run("stat", "-c", "%U", "/var/lib/shipway/storage/launcher.token").stdout
    assert owner == "shipway\n"


def test_for_sudo_nothing_is_left_that_forbids_it(installed: Systemd, configure: Configure) -> None:
    configure(impersonation="sudo")
    installed.run("cp", f"{FILES}/launcher-sudo.conf", f"{_DROP_INS}/sudo.conf")
    installed.ctl("daemon-reload")
    installed.ctl("start", UNIT)
    (pid,) = installed.show(UNIT, "MainPID")
    status = installed.run("cat", f"/proc/{pid}/status").stdout
    for line in ("NoNewPrivs:\t0", "Seccomp:\t0"):
        assert line in status
    assert "CapBnd:\t0000000000000000" not in status
