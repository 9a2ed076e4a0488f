"""Jobs on PBS, driven as the Go master drives a launcher."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab.pbs import Pbs
from tests.lab.processes import wait_until
from tests.lab.shipway import Launcher
from tests.launcher import commandline
from tests.launcher.go_master import GoMaster, Job, Refused
from tests.launcher.manifests import make_manifest

CARRIER = "com.cray.analytics.capsules.carriers.hpc.pbs.SandboxOverPbs"
SHOW = 'echo "rank $SLURM_PROCID of $SLURM_NPROCS on $SLURMD_NODENAME"'


def manifest(words: Sequence[str] = ("/bin/true",), **changes: Any) -> dict[str, Any]:
    """Return a manifest as the master sends it to PBS."""
    return make_manifest(
        words, **{"carrier": CARRIER, "configuration": {"queue": "gpuq"}, **changes}
    )


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"{request.node.name[:60].replace('[', '_').replace(']', '')}.{next(numbers)}"


@pytest.fixture(autouse=True)
def _is_left_empty(pbs: Pbs) -> Iterator[None]:
    """Let no test inherit the jobs or the moods of one that failed."""
    yield
    pbs.clear()


def wait_for_output(master: GoMaster, job: Job, text: bytes) -> None:
    wait_until(
        lambda: text in master.log(job, "output.log"),
        f"{job.dispatch_id} prints {text!r}",
        limit_s=60,
        logs=lambda: master.log(job, "error.log").decode(errors="replace"),
    )


def test_a_job_runs_once_on_each_of_three_nodes(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs
) -> None:
    resources = {"instances": {"nodes": 3}, "cores": {"per-node": 2}}
    job = master.launch(manifest(["/bin/sh", "-c", SHOW], resources=resources), new_id())
    assert master.wait(job) == "COMPLETED", master.log(job, "error.log")
    assert job.task_log[-1] == "", "a success shows no error"
    assert sorted(master.log(job, "output.log").decode().splitlines()) == [
        f"rank {number} of 3 on n{number + 1}" for number in range(3)
    ]
    assert job.job_id is not None
    seen = pbs.jobs()[job.job_id]
    assert seen["queue"] == "gpuq"
    assert seen["Resource_List"]["select"] == "3:ncpus=2"
    assert seen["Resource_List"]["walltime"] == "01:00:00", "the site's option"
    assert seen["Job_Name"].endswith(job.dispatch_id)


def test_each_rank_sees_the_gpus_of_its_own_node(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    words = ["/bin/sh", "-c", 'echo "$SLURM_PROCID/$SLURM_NPROCS $CUDA_VISIBLE_DEVICES"']
    job = master.launch(
        manifest(words, resources={"instances": {"per-node": 1}, "gpus": {"total": 8}}), new_id()
    )
    assert master.wait(job) == "COMPLETED", master.log(job, "error.log")
    lines = sorted(master.log(job, "output.log").decode().splitlines())
    assert lines == ["0/2 0,1,2,3", "1/2 0,1,2,3"]


def test_a_trial_on_unequal_nodes_is_not_run(master: GoMaster, new_id: Callable[[], str]) -> None:
    job = master.launch(
        manifest(
            environment={"DET_TASK_TYPE": "TRIAL"},
            resources={"instances": {"per-node": 1}, "gpus": {"total": 6}},
        ),
        new_id(),
    )
    assert master.wait(job) == "FAILED"
    assert "the nodes have 2,4 GPUs" in job.task_log[-1]


def test_the_exit_code_is_in_the_message_that_the_master_shows(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    job = master.launch(manifest(["/bin/sh", "-c", "echo last words >&2; exit 7"]), new_id())
    assert master.wait(job) == "FAILED"
    shown = job.task_log[-1]
    assert shown.startswith("failed state due to reason 'NonZeroExitCode':\n")
    assert "Job Exited with Exit Code 7\n" in shown
    assert "rank 0 on n1 exited with status 7" in shown
    assert "last words" in shown


def test_a_rank_that_fails_ends_the_others(master: GoMaster, new_id: Callable[[], str]) -> None:
    words = ["/bin/sh", "-c", "if [ $SLURM_PROCID = 2 ]; then exit 9; fi; exec sleep 600"]
    resources = {"instances": {"nodes": 3}}
    job = master.launch(manifest(words, resources=resources), new_id())
    assert master.wait(job, limit_s=60) == "FAILED"
    assert "Job Exited with Exit Code 9\n" in job.task_log[-1]


def test_environment_and_arguments_arrive_byte_for_byte(
    master: GoMaster, new_id: Callable[[], str], tmp_path: Path
) -> None:
    values = {
        "A": 'b=c "q"',
        "NL": "l1\nl2",
        "COMMA": "a,b=c,d",
        "SQ": "it's",
        "DOLLAR": "$$ ${HOME} `id` $(id)",
        "BS": "\\n\\t\\\\",
        "UNI": "día😀",
        "EMPTY": "",
        "LONG": "x" * 70000,
    }
    arguments = ["a b", "", "'", '"', "$(id)", "\n", "día", "*"]
    script = tmp_path / "show.py"
    script.write_text(
        "import json, os, sys\n"
        f"out = {str(tmp_path)!r} + '/' + os.environ['SLURM_PROCID']\n"
        "json.dump([dict(os.environ), sys.argv[1:]], open(out, 'w'))\n"
    )
    job = master.launch(
        manifest(
            ["/usr/bin/python3", str(script), *arguments],
            environment=values,
            data=[
                {"name": "d", "source": str(tmp_path), "target": str(tmp_path), "readOnly": False}
            ],
            resources={"instances": {"nodes": 2}},
        ),
        new_id(),
    )
    assert master.wait(job) == "COMPLETED", master.log(job, "error.log")
    for rank in "01":
        environment, seen = json.loads((tmp_path / rank).read_text())
        assert {name: environment.get(name) for name in values} == values
        assert seen == arguments


@pytest.mark.parametrize("has_history", [True, False])
def test_a_running_job_is_cancelled(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs, has_history: bool
) -> None:
    pbs.set_mood("no-history", is_on=not has_history)
    words = ["/bin/sh", "-c", "echo ready; exec sleep 600"]
    job = master.launch(manifest(words, resources={"instances": {"nodes": 2}}), new_id())
    wait_until(lambda: master.log(job, "output.log").count(b"ready") == 2, "both run", limit_s=60)
    master.wait(job, "RUNNING")
    master.kill(job)
    assert master.wait(job) == "TERMINATED"
    pbs.set_mood("no-history", is_on=False)


def test_a_job_that_ignores_sigterm_is_killed(master: GoMaster, new_id: Callable[[], str]) -> None:
    words = ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    job = master.launch(manifest(words), new_id())
    wait_for_output(master, job, b"ready")
    master.kill(job)
    assert master.wait(job, limit_s=60) == "TERMINATED"


def test_a_job_cancelled_by_someone_else_has_failed(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs
) -> None:
    job = master.launch(manifest(["/bin/sh", "-c", "echo ready; exec sleep 600"]), new_id())
    wait_for_output(master, job, b"ready")
    master.poll(job)
    assert job.job_id is not None
    pbs.run("qdel", job.job_id)
    assert master.wait(job) == "FAILED"
    assert "failed state due to reason 'Cancelled'" in job.task_log[-1]


def test_a_sites_notice_reaches_the_ranks_on_all_nodes(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs
) -> None:
    """A checkpoint script of a site signals the job, which PBS does on its first host alone."""
    loop = "trap 'echo noticed; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    words = ["/bin/sh", "-c", loop]
    job = master.launch(manifest(words, resources={"instances": {"nodes": 3}}), new_id())
    wait_until(
        lambda: master.log(job, "output.log").count(b"ready") == 3, "all are ready", limit_s=60
    )
    master.wait(job, "RUNNING")
    assert job.job_id is not None
    pbs.run("qsig", "-s", "SIGTERM", job.job_id)
    assert master.wait(job) == "COMPLETED", master.log(job, "error.log")
    assert master.log(job, "output.log").count(b"noticed") == 3


def test_a_time_limit_is_told(master: GoMaster, new_id: Callable[[], str]) -> None:
    options = ["-l walltime=00:00:02"]
    job = master.launch(manifest(["/bin/sleep", "600"], pbs_arguments=options), new_id())
    assert master.wait(job) == "FAILED"
    assert "failed state due to reason 'TimeLimit'" in job.task_log[-1]


def test_without_history_the_scripts_own_word_counts(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs
) -> None:
    pbs.set_mood("no-history")
    jobs = [master.launch(manifest(["/bin/sh", "-c", f"exit {n}"]), new_id()) for n in (0, 5)]
    assert [master.wait(job) for job in jobs] == ["COMPLETED", "FAILED"]
    assert "Job Exited with Exit Code 5\n" in jobs[1].task_log[-1]
    pbs.set_mood("no-history", is_on=False)


def test_a_waiting_job_tells_why(master: GoMaster, new_id: Callable[[], str]) -> None:
    resources = {"instances": {"per-node": 1}, "gpus": {"total": 99}}
    job = master.launch(manifest(resources=resources), new_id())
    master.wait(job, "PENDING")
    wait_until(
        lambda: master.poll(job) and any("can never start" in line for line in job.task_log),
        "the reason is told",
        limit_s=60,
    )
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_users_options_reach_pbs_as_they_are(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs
) -> None:
    options = ['-P "a \\\\ b\'s"', "-l select=7:ngpus=4:mem=4gb,walltime=00:10:00", "-A team -p 5"]
    resources = {"instances": {"nodes": 2}, "gpus": {"per-node": 1}}
    job = master.launch(
        manifest(["/bin/sleep", "600"], pbs_arguments=options, resources=resources), new_id()
    )
    master.wait(job, "RUNNING")
    assert job.job_id is not None
    seen = pbs.jobs()[job.job_id]
    assert (seen["project"], seen["Account_Name"], seen["Priority"]) == ("a \\ b's", "team", "5")
    assert seen["Resource_List"]["select"] == "2:ngpus=1:mem=4gb"
    assert seen["Resource_List"]["walltime"] == "00:10:00"
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_what_qsub_refuses_is_told_in_its_words(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    name = new_id()
    with pytest.raises(Refused) as refusal:
        master.launch(manifest(configuration={"queue": "nosuch"}), name)
    assert refusal.value.task_log_text.strip() == "qsub: Unknown queue"
    assert master.wait(master.launch(manifest(), name)) == "COMPLETED", "it can be tried again"
    with pytest.raises(Refused, match="PBS option -v is not configurable"):
        master.launch(manifest(pbs_arguments=["-v A=b"]), new_id())
    with pytest.raises(Refused, match="drives PBS, not Slurm"):
        master.launch(make_manifest(), new_id())


def test_a_lost_answer_makes_no_second_job(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs
) -> None:
    pbs.set_mood("mute")
    name = new_id()
    job = master.launch(manifest(["/bin/sleep", "600"]), name)
    master.wait(job, "RUNNING")
    assert [found["Job_Name"].endswith(name) for found in pbs.jobs().values()].count(True) == 1
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_states_are_kept_while_the_server_is_away(
    master: GoMaster, new_id: Callable[[], str], pbs: Pbs, launcher: Launcher
) -> None:
    job = master.launch(manifest(["/bin/sh", "-c", "echo ready; exec sleep 600"]), new_id())
    wait_for_output(master, job, b"ready")
    master.wait(job, "RUNNING")
    pbs.set_mood("down")
    assert master.status(job)["state"] == "RUNNING"
    with pytest.raises(Refused, match="does not answer"):
        master.launch(manifest(), new_id())
    launcher.kill()
    launcher.start()
    assert master.status(job)["state"] == "RUNNING"
    pbs.set_mood("down", is_on=False)
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_resources_and_queues_are_as_the_master_reads_them(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    job = master.launch(
        manifest(
            ["/bin/sleep", "600"],
            resources={"instances": {"per-node": 1}, "gpus": {"total": 2, "per-instance": 2}},
        ),
        new_id(),
    )
    master.wait(job, "RUNNING")
    wait_until(
        lambda: master.query("Resources")["partitions"][0]["totalAllocatedNodes"] == 1,
        "the job's node is in use",
        limit_s=60,
    )
    found = master.query("Resources")
    assert [row["partitionName"] for row in found["partitions"]] == ["workq", "gpuq"]
    assert found["partitions"][0] == {
        "partitionName": "workq",
        "default": True,
        "totalNodes": 4,
        "totalAvailableNodes": 3,
        "totalAllocatedNodes": 1,
        "totalGpuSlots": 16,
        "totalAvailableGpuSlots": 14,
        "totalCpuSlots": 32,
        "totalAvailableCpuSlots": 31,
        "accelerator": "unconfigured",
    }
    assert [(row["name"], row["gpuCount"], row["cpuCount"]) for row in found["nodes"]] == [
        (f"n{number}", 4, 8) for number in range(1, 5)
    ], "virtual nodes are part of their host"
    assert job.job_id is not None
    queued = master.query("Queues")[job.job_id]
    assert (queued["partition"], queued["gpuSlots"], queued["state"]) == ("gpuq", "2", "RUNNING")
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_check_names_the_release_and_what_is_missing(launcher: Launcher, pbs: Pbs) -> None:
    def check() -> str:
        words = ("check", "--config", launcher.config)
        return commandline.call(*words, environment=os.environ).stdout

    said = check()
    assert "pbs: PBS 23.06.06\n" in said
    assert "pbs: partitions workq, gpuq; 4 nodes\n" in said
    assert "history" not in said
    pbs.set_mood("no-history")
    assert "pbs: PBS keeps no history" in check()
    pbs.set_mood("down")
    assert "pbs.conf_file: no answer from PBS's server" in check()


def test_secrets_are_only_in_files_of_mode_0600(
    master: GoMaster, new_id: Callable[[], str], launcher: Launcher, pbs: Pbs
) -> None:
    secret = "hush-hush-4711"
    job = master.launch(manifest(environment={"DET_USER_TOKEN": secret}), new_id())
    master.wait(job)
    folders = (launcher.config.parent, pbs.folder)
    holders = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert [path.name for path in holders] == ["task.json"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in holders)
