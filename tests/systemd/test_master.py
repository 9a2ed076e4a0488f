"""The master's unit under a real systemd, installed as docs/master.md says."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab.processes import free_ports, wait_until
from tests.lab.systemd import Systemd
from tests.systemd.conftest import FILES, configure_daemon, install, read_commands

UNIT = "shipway-master.service"
_SETTINGS = "/etc/shipway/master.yaml"
_DATA = "/var/lib/shipway-master"
_DROP_INS = f"/etc/systemd/system/{UNIT}.d"
_CLEAN = f"""
systemctl stop {UNIT}
systemctl reset-failed
rm -rf {_DROP_INS} {_DATA}/*
systemctl daemon-reload
"""

Configure = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def installed(machine: Systemd) -> Systemd:
    """A machine with the master."""
    install(machine, read_commands("master.md", "### As a service")[:-1])
    return machine


@pytest.fixture
def configure(installed: Systemd) -> Iterator[Configure]:
    """Write the settings file; the unit is not started yet."""

    def write(**settings: Any) -> dict[str, Any]:
        full = {"data": _DATA, "port": free_ports(1)[0], **settings}
        configure_daemon(installed, UNIT, _SETTINGS, full, group="shipway-master")
        return full

    yield write
    installed.run("sh", "-c", _CLEAN, check=False)


def test_it_counts_as_started_when_it_serves_and_comes_back_after_a_crash(
    installed: Systemd, configure: Configure
) -> None:
    port = configure()["port"]
    installed.ctl("start", UNIT)
    pid, text = installed.show(UNIT, "MainPID", "StatusText")
    health = installed.run("curl", "-fsS", f"http://127.0.0.1:{port}/health").stdout
    password = installed.run("stat", "-c", "%U %a", f"{_DATA}/initial-password").stdout
    status = installed.run("cat", f"/proc/{pid}/status").stdout
    installed.ctl("kill", "--kill-who=main", f"--signal={int(signal.SIGKILL)}", UNIT)
    wait_until(
        lambda: installed.show(UNIT, "NRestarts", "ActiveState") == ["1", "active"],
        "it is back",
        limit_s=60,
        interval_s=0.3,
        logs=lambda: installed.journal(UNIT, "--lines=40"),
    )
    installed.ctl("stop", UNIT)

    assert text == "0 agents, 0 tasks"
    assert health
    assert password == "shipway-master 600\n"
    assert "NoNewPrivs:\t1" in status
    assert "CapBnd:\t0000000000000000" in status
    assert installed.show(UNIT, "Result", "ExecMainStatus") == ["success", "0"]


def test_wrong_settings_are_told_once_and_not_tried_again(
    installed: Systemd, configure: Configure
) -> None:
    configure(hots="x", log={"level": "loud"})
    installed.ctl("start", UNIT, check=False)
    state = installed.show(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    errors = installed.journal(UNIT, "--priority=err")

    assert state == ["failed", "78", "0"]
    assert "hots: unknown key; did you mean host?" in errors
    assert "log.level: " in errors


def test_the_settings_as_installed_are_ready_to_be_used(installed: Systemd) -> None:
    verified = installed.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
    installed.run("sh", "-c", f"cp {FILES}/master.yaml {_SETTINGS}; chmod 666 {_SETTINGS}")
    made = installed.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/shipway-master.conf")
    mode = installed.run("stat", "-c", "%a %U %G", _SETTINGS).stdout

    assert verified.stdout + verified.stderr + made.stdout + made.stderr == ""
    assert mode == "640 root shipway-master\n"
