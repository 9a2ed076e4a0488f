"""Shells with the stock `det`, which runs a real ssh through the master's port."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Site, SlurmSite
from tests.e2e.tasks import wait_for_end, wait_for_state
from tests.lab.sshd import missing_programs

pytestmark = pytest.mark.skipif(
    bool(missing_programs()) or not shutil.which("ssh"), reason="needs ssh and sshd"
)

_VALUE = r"""a "quoted" \ value, with = and 'more' \"$HOME"""

_NOTHING_REMEMBERED = ("--", "-o", "UserKnownHostsFile=/dev/null")


def test_a_shell_is_started_opened_listed_and_killed(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "shell.yaml"
    variables = [f"WORD={_VALUE}", "LINES_OF_TEXT=one\ntwo"]
    config.write_text(
        yaml.safe_dump(
            {
                "resources": {"slots": 1},
                "environment": {"environment_variables": variables},
            }
        )
    )
    shell_id = site.det.run(
        "shell", "start", "--detach", "--config-file", str(config)
    ).stdout.strip()

    inside = site.det.run(
        *("shell", "open", shell_id, *_NOTHING_REMEMBERED),
        'echo "<$WORD>$DET_TASK_ID"; head -c 300000 /dev/zero | tr "\\0" x',
    )
    listed = site.det.run("shell", "list").stdout
    command = site.det.run("shell", "show-ssh-command", shell_id).stdout
    site.det.run("shell", "set", "priority", shell_id, "7")
    site.det.run("shell", "kill", shell_id)
    ended = wait_for_end(site.api, shell_id)
    after = site.det.run("shell", "open", shell_id, *_NOTHING_REMEMBERED, "true", check=False)

    assert f"<{_VALUE}>{shell_id}" in inside.stdout
    assert inside.stdout.count("x") >= 300000
    assert re.search(rf"{shell_id}.*RUNNING", listed)
    assert f"@{shell_id}" in command
    assert ended["taskType"] == "TASK_TYPE_SHELL"
    assert after.returncode != 0


@pytest.mark.slurm
def test_a_shell_in_a_slurm_job(slurm_site: SlurmSite) -> None:
    shell_id = slurm_site.det.run(
        *("shell", "start", "--detach", "--config", "resources.slots=1"),
        *("--config", "resources.resource_pool=gpu"),
    ).stdout.strip()
    # The lab's nodes have names that nobody resolves; a task says by itself where it is reached.
    wait_for_state(slurm_site.api, shell_id, "STATE_RUNNING")
    where = f"/api/v1/allocations/{shell_id}.1/proxy_address"
    slurm_site.api.call("POST", where, {"proxyAddress": f"{'no-host' * 12}..name"})
    upgrade = {"Upgrade": "websocket"}
    astray, _ = slurm_site.api.send("GET", f"/proxy/{shell_id}/", headers=upgrade)
    slurm_site.api.call("POST", where, {"proxyAddress": "127.0.0.1"})

    inside = slurm_site.det.run(
        *("shell", "open", shell_id, *_NOTHING_REMEMBERED), 'echo "$SLURM_JOB_ID-$DET_TASK_ID"'
    )
    slurm_site.det.run("shell", "kill", shell_id)
    wait_for_end(slurm_site.api, shell_id)

    assert astray == 502
    assert re.search(rf"\d+-{shell_id}", inside.stdout)
