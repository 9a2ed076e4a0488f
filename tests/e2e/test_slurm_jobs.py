"""Tasks as Slurm jobs: output, the three signals, and pre-emption by Slurm itself."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import SlurmSite
from tests.e2e.tasks import (
    fetch_command,
    fetch_log,
    fetch_task,
    wait_for_end,
    wait_for_lines,
    wait_for_log,
    wait_for_state,
)
from tests.lab.processes import pid_in, wait_until
from tests.lab.shipway import frozen
from tests.lab.slurm import Slurm

PAYLOADS = Path(__file__).parent / "payloads"
TWO_NODES = {
    "resources": {"resource_pool": "gpu", "slots": 8},
    "slurm": {"slots_per_node": 4},
}


@pytest.fixture(autouse=True)
def _no_jobs_left(slurm_site: SlurmSite) -> Iterator[None]:
    yield
    slurm_site.slurm.clear()


def create_task(site: SlurmSite, folder: Path, entrypoint: str, **config: object) -> str:
    """Create a task of two nodes with the stock client and return its id."""
    file = folder / "task.yaml"
    file.write_text(
        yaml.safe_dump({"entrypoint": ["/bin/sh", "-c", entrypoint], **TWO_NODES, **config})
    )
    done = site.det.run("task", "create", str(file), "--context", str(PAYLOADS))
    return done.stdout.split()[-1]


def job_of(site: SlurmSite, task_id: str) -> str:
    """Return the Slurm id of the task's newest job."""
    names = site.slurm.run(["squeue", "-h", "-t", "all", "-o", "%i %j"]).stdout.splitlines()
    return max((name.split()[0] for name in names if task_id in name), key=int)


def submit_urgent(slurm: Slurm, command: str) -> str:
    """Submit a job that needs all nodes at once, so that Slurm preempts all others."""
    options = ["-p", "urgent", "-N4", "--exclusive", "-o", "/dev/null"]
    return slurm.run(["sbatch", "--parsable", *options, "--wrap", command]).stdout.strip()


def test_a_command_runs_on_a_slurm_node(slurm_site: SlurmSite) -> None:
    done = slurm_site.det.run(
        *("cmd", "run", "--config", "resources.resource_pool=gpu"),
        'echo hello; hostname; echo "on $SLURMD_NODENAME"; exit 3',
    )
    assert re.search(r"hello$", done.stdout, re.MULTILINE)
    assert re.search(r"on n[1-4]$", done.stdout, re.MULTILINE)
    newest = json.loads(slurm_site.det.run("cmd", "list", "--json", "--order-by", "desc").stdout)[0]
    assert newest["state"] == "TERMINATED"
    assert newest["resourcePool"] == "gpu"
    assert "3" in newest["exitStatus"]


def test_the_agents_pool_works_beside_slurm(slurm_site: SlurmSite) -> None:
    done = slurm_site.det.run("cmd", "run", 'echo "at ${SLURMD_NODENAME:-an agent}"')
    assert "at an agent" in done.stdout


def test_a_task_runs_on_two_nodes(slurm_site: SlurmSite, tmp_path: Path) -> None:
    task_id = create_task(
        slurm_site,
        tmp_path,
        'echo "rank $SLURM_PROCID of $SLURM_NPROCS on $SLURMD_NODENAME with $CUDA_VISIBLE_DEVICES"',
    )
    wait_for_end(slurm_site.api, task_id)
    wait_for_lines(slurm_site.api, task_id, " of 2 on ", 2)
    text = "\n".join(fetch_log(slurm_site.api, task_id))
    found = re.findall(r"rank (\d) of 2 on (n\d) with 0,1,2,3$", text, re.MULTILINE)
    assert sorted(rank for rank, _ in found) == ["0", "1"]
    assert len({node for _, node in found}) == 2
    assert slurm_site.slurm.job_states()[job_of(slurm_site, task_id)] == "COMPLETED"
    assert f"HPC Job ID: {job_of(slurm_site, task_id)}" in text


def test_a_killed_command_frees_its_nodes(slurm_site: SlurmSite) -> None:
    command_id = slurm_site.det.run(
        *("cmd", "run", "--detach", "--config", "resources.resource_pool=gpu"), "exec sleep 1000"
    ).stdout.strip()
    wait_for_state(slurm_site.api, command_id, "STATE_RUNNING")
    slurm_site.det.run("cmd", "kill", command_id)
    wait_for_end(slurm_site.api, command_id)
    slurm_site.slurm.wait_idle()
    assert fetch_command(slurm_site.api, command_id)["state"] == "STATE_TERMINATED"


def test_running_means_that_every_rank_runs(slurm_site: SlurmSite, tmp_path: Path) -> None:
    # A frozen slurmd takes the order to start its rank, but starts it only when it goes on.
    pid = pid_in(slurm_site.slurm.folder / "run/slurmd-n2.pid")
    assert pid is not None
    with frozen(pid):
        task_id = create_task(
            slurm_site, tmp_path, "exec sleep 1000", slurm=pinned("n1", "n2", slots_per_node=4)
        )
        line = wait_for_log(slurm_site.api, task_id, "out of 2 containers running")
        assert re.search(r"1 out of 2 containers running on nodes n1", line)
        wait_for_state(slurm_site.api, task_id, "STATE_PULLING")
    wait_for_log(slurm_site.api, task_id, "2 out of 2 containers running")
    wait_for_state(slurm_site.api, task_id, "STATE_RUNNING")
    slurm_site.api.call("POST", f"/api/v1/tasks/{task_id}/kill", {"taskId": task_id})
    wait_for_end(slurm_site.api, task_id)


def pinned(*nodes: str, slots_per_node: int) -> dict[str, object]:
    """Return the `slurm` section that lets a job run on *nodes* only."""
    return {"slots_per_node": slots_per_node, "sbatch_args": [f"--nodelist={','.join(nodes)}"]}


def test_all_gather_gives_every_rank_all_data_in_rank_order(
    slurm_site: SlurmSite, tmp_path: Path
) -> None:
    task_id = create_task(slurm_site, tmp_path, f"exec {sys.executable} gather.py")
    wait_for_end(slurm_site.api, task_id)
    lines = wait_for_lines(slurm_site.api, task_id, "gathered ", 4)
    answers = [json.loads(line.partition("gathered ")[2]) for line in lines]
    assert sorted(answer["by"] for answer in answers) == [0, 1, 2, 3]
    for answer in answers:
        assert [peer["rank"] for peer in answer["data"]] == [0, 1, 2, 3]
        assert [peer["bytes"] for peer in answer["data"]] == ["é\n" * rank for rank in range(4)]
        nodes = [peer["node"] for peer in answer["data"]]
        assert nodes[0] == nodes[1] != nodes[2] == nodes[3]


def test_slurm_preempts_a_task_which_leaves_in_time_and_comes_back(
    slurm_site: SlurmSite, tmp_path: Path
) -> None:
    site, slurm = slurm_site, slurm_site.slurm
    progress = tmp_path / "progress"
    mounts = [{"host_path": str(tmp_path), "container_path": str(tmp_path)}]
    task_id = create_task(
        site, tmp_path, f"exec {sys.executable} stoppable.py {progress}", bind_mounts=mounts
    )
    wait_for_log(site.api, task_id, "starting at step 0")
    wait_for_state(site.api, task_id, "STATE_RUNNING")
    first = job_of(site, task_id)

    urgent = submit_urgent(slurm, "sleep 300")
    wait_for_log(site.api, task_id, "leaving at step")
    slurm.wait_for_job(urgent, "RUNNING")

    assert slurm.job_states()[first] == "COMPLETED", "the job ended by itself, Slurm did not end it"
    assert not fetch_task(site.api, task_id).get("endTime"), "it waits for its second run"

    slurm.run(["scancel", urgent])
    step = int(progress.read_text())
    wait_for_log(site.api, task_id, f"starting at step {step}")
    allocations = fetch_task(site.api, task_id)["allocations"]
    assert [one["allocationId"] for one in allocations] == [f"{task_id}.2", f"{task_id}.1"]
    text = "\n".join(fetch_log(site.api, task_id))
    assert len(re.findall("leaving at step", text)) == 1
    assert len(re.findall("preempted by the scheduler", text)) == 1, "the master heard of it once"
    site.api.call("POST", f"/api/v1/tasks/{task_id}/kill", {"taskId": task_id})
    wait_for_end(site.api, task_id)


def test_slurm_preempts_a_command_which_hears_of_it(slurm_site: SlurmSite) -> None:
    site, slurm = slurm_site, slurm_site.slurm
    command_id = site.det.run(
        *("cmd", "run", "--detach", "--config", "resources.resource_pool=gpu"),
        "trap 'echo told to go; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
    ).stdout.strip()
    wait_for_log(site.api, command_id, "ready")
    urgent = submit_urgent(slurm, "sleep 1")
    wait_for_log(site.api, command_id, "told to go")
    wait_for_end(site.api, command_id)
    slurm.wait_for_job(urgent, "COMPLETED")
    assert slurm.job_states()[job_of(site, command_id)] == "COMPLETED"


def test_jobs_go_on_while_the_launcher_restarts(slurm_site: SlurmSite, tmp_path: Path) -> None:
    site = slurm_site
    go = tmp_path / "go"
    command_id = site.det.run(
        *("cmd", "run", "--detach", "--config", "resources.resource_pool=gpu"),
        *("--volume", f"{tmp_path}:{tmp_path}"),
        f"echo before; until [ -e {go} ]; do sleep 0.1; done; echo after; exit 4",
    ).stdout.strip()
    wait_for_log(site.api, command_id, "before")
    state = site.folder / "launcher"
    # The master has the line a moment before the launcher has noted that.
    wait_until(
        lambda: list(state.glob(f"relay/spool/{command_id}*/logs.state")), "note", limit_s=60
    )
    site.launcher.kill()
    go.touch()
    # The job keeps what it cannot deliver for half a minute after the task's end.
    wait_until(
        lambda: any("after\n" in path.read_text() for path in state.rglob("output.log")),
        "the task's end",
        limit_s=60,
    )
    site.launcher.start()
    wait_for_end(site.api, command_id)
    wait_for_log(site.api, command_id, "after")
    text = "\n".join(fetch_log(site.api, command_id))
    assert len(re.findall(r"before$", text, re.MULTILINE)) == 1
    assert len(re.findall(r"after$", text, re.MULTILINE)) == 1
    wait_until(
        lambda: "4" in str(fetch_command(site.api, command_id)["exitStatus"]),
        "the exit code",
        limit_s=60,
    )
