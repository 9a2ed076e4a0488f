"""What people who work in a shell or a notebook see of a crash of the master."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Site
from tests.e2e.tasks import states, wait_for_end
from tests.e2e.test_det_notebooks import start_notebook
from tests.lab.processes import wait_until
from tests.lab.sshd import missing_programs

_NOTHING_REMEMBERED = ("--", "-o", "UserKnownHostsFile=/dev/null")


@pytest.mark.skipif(
    bool(missing_programs()) or not shutil.which("ssh"), reason="needs ssh and sshd"
)
def test_shells_and_notebooks_outlive_the_master_and_sessions_do_not(
    site: Site, tmp_path: Path
) -> None:
    notebook_id = start_notebook(site, idle_timeout="1h")
    notebook = site.api.call("GET", f"/api/v1/notebooks/{notebook_id}")["notebook"]
    page = site.api.send("GET", notebook["serviceAddress"])
    shell_id = site.det.run(
        *("shell", "start", "--detach", "--config", "resources.slots=0")
    ).stdout.strip()
    output = tmp_path / "session"
    session = site.det.start(
        *("shell", "open", shell_id, *_NOTHING_REMEMBERED),
        "cd $DET_WORKDIR; nohup sleep 1000 & echo $! >pid; echo it is open; exec sleep 1000",
        output=output,
    )
    wait_until(lambda: "it is open" in output.read_text(), "the session", limit_s=60)

    site.master.kill()
    session.wait(60)
    site.master.start()
    site.agent.wait_until(
        lambda: site.api.send("GET", notebook["serviceAddress"]) == page, "the page is there again"
    )
    alive = [states(site.api, task_id)[0] for task_id in (notebook_id, shell_id)]
    inside = site.det.run(
        *("shell", "open", shell_id, *_NOTHING_REMEMBERED),
        "kill -0 $(cat $DET_WORKDIR/pid) && echo it goes on",
    )
    for kind, task_id in (("shell", shell_id), ("notebook", notebook_id)):
        site.det.run(kind, "kill", task_id)
        wait_for_end(site.api, task_id)

    assert page[0] == 200
    assert "closed" in output.read_text()
    assert alive == ["STATE_RUNNING"] * 2
    assert "it goes on" in inside.stdout
