"""Jobs on a real Slurm, driven as the Go master drives a launcher."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from tests.lab.processes import wait_until
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster, Job, Refused
from tests.launcher.manifests import make_manifest

TWO_NODES = {"instances": {"nodes": 2}, "cores": {"per-node": 1}}


def wait_for_output(master: GoMaster, job: Job, text: bytes) -> None:
    """Wait until the job's first process has said so; RUNNING comes much earlier."""
    wait_until(
        lambda: text in master.log(job, "output.log"),
        f"{job.dispatch_id} prints {text!r}",
        limit_s=60,
        logs=lambda: master.log(job, "error.log").decode(errors="replace"),
    )


def test_a_job_runs_once_on_each_of_two_nodes(master: GoMaster, new_id: Callable[[], str]) -> None:
    words = ["/bin/sh", "-c", 'echo "rank $SLURM_PROCID of $SLURM_NPROCS on $SLURMD_NODENAME"']
    job = master.launch(make_manifest(words, resources=TWO_NODES), new_id())
    assert master.wait(job) == "COMPLETED"
    assert job.task_log[-1] == "", "a success shows no error"
    lines = sorted(master.log(job, "output.log").decode().splitlines())
    assert [line.rpartition(" on ")[0] for line in lines] == ["rank 0 of 2", "rank 1 of 2"]
    assert len({line.rpartition(" on ")[2] for line in lines}) == 2


def test_the_exit_code_is_in_the_message_that_the_master_shows(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    job = master.launch(make_manifest(["/bin/sh", "-c", "echo last words >&2; exit 7"]), new_id())
    assert master.wait(job) == "FAILED"
    shown = job.task_log[-1]
    assert shown.startswith("Slurm job is in a failed state due to reason 'NonZeroExitCode':\n")
    assert "Job Exited with Exit Code 7\n" in shown
    assert "Exited with exit code 7" in shown, "srun's line, from the error log"
    assert "last words" in shown


def test_environment_and_arguments_arrive_byte_for_byte(
    master: GoMaster, new_id: Callable[[], str], tmp_path: Path
) -> None:
    values = {
        "A": 'b=c "q"',
        "NL": "l1\nl2",
        "SP": "  two  blanks  ",
        "DQ": '{"k": "v\\"w"}',
        "SQ": "it's",
        "DOLLAR": "$$ ${HOME} `id` $(id)",
        "BS": "\\n\\t\\\\",
        "UNI": "día😀",
        "EMPTY": "",
        "ANGLES": "<a> & <b>",
        "LONG": "x" * 70000,
        "NAME.WITH.DOT": "1",
    }
    arguments = ["a b", "", "'", '"', "$(id)", "\n", "día", "*"]
    script = tmp_path / "show.py"
    script.write_text(
        "import json, os, sys\n"
        f"json.dump([dict(os.environ), sys.argv[1:]], open({str(tmp_path / 'seen.json')!r}, 'w'))\n"
    )
    words = ["/usr/bin/python3", str(script), *arguments]
    data = [{"name": "ds0", "source": str(tmp_path), "target": str(tmp_path), "readOnly": False}]
    job = master.launch(make_manifest(words, environment=values, data=data), new_id())
    assert master.wait(job) == "COMPLETED", job.task_log
    environment, seen = json.loads((tmp_path / "seen.json").read_text())
    assert {name: environment.get(name) for name in values} == values
    assert seen == arguments


def test_a_pending_job_tells_why_in_plain_words(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    resources = {"instances": {"nodes": 5}}
    job = master.launch(make_manifest(resources=resources), new_id())
    master.wait(job, "PENDING")
    wait_until(
        lambda: master.poll(job) and any("can never start" in line for line in job.task_log),
        "the reason is told",
        limit_s=60,
    )
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_a_running_job_is_cancelled(master: GoMaster, new_id: Callable[[], str]) -> None:
    job = master.launch(make_manifest(["/bin/sleep", "600"]), new_id())
    master.wait(job, "RUNNING")
    master.kill(job)
    master.kill(job)
    assert master.wait(job) == "TERMINATED"
    assert "failed" not in job.task_log[-1]


def test_a_job_that_ignores_sigterm_is_killed(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm
) -> None:
    words = ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    job = master.launch(make_manifest(words), new_id())
    wait_for_output(master, job, b"ready")
    master.wait(job, "RUNNING")
    master.kill(job)
    assert master.wait(job, limit_s=60) == "TERMINATED"
    assert job.job_id is not None
    assert slurm.job_states()[job.job_id] == "CANCELLED"


def test_a_job_cancelled_by_someone_else_has_failed(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm
) -> None:
    job = master.launch(make_manifest(["/bin/sleep", "600"]), new_id())
    master.wait(job, "RUNNING")
    assert job.job_id is not None
    slurm.run(["scancel", job.job_id])
    assert master.wait(job) == "FAILED"
    assert "due to reason 'Cancelled'" in job.task_log[-1]


def test_a_preempted_job_fails_with_that_reason(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm
) -> None:
    words = ["/bin/sh", "-c", "trap 'exit 77' TERM; echo ready; while :; do sleep 0.2; done"]
    manifest = make_manifest(words, configuration={"queue": "cancel"})
    job = master.launch(manifest, new_id())
    wait_for_output(master, job, b"ready")
    urgent = slurm.run(
        [
            "sbatch",
            "--parsable",
            "-p",
            "urgent",
            "-N4",
            "--exclusive",
            "-o/dev/null",
            "--wrap=sleep 5",
        ]
    ).stdout.strip()
    assert master.wait(job) == "FAILED"
    assert "Slurm had announced its preemption at" in job.task_log[-1]
    assert "Exit Code 77" in job.task_log[-1]
    slurm.run(["scancel", urgent])


@pytest.fixture(scope="module")
def warned(launcher: Launcher) -> Job:
    """A job that is warned of its time limit; Slurm looks at limits no more than twice a minute."""
    words = ["/bin/sh", "-c", "trap 'exit 138' USR1; echo ready; while :; do sleep 0.2; done"]
    options = ["--mem=50", "--time=1", "--signal=B:USR1@50"]
    master = GoMaster(launcher.url, launcher.token_file)
    job = master.launch(make_manifest(words, slurm_arguments=options), "warned.1")
    wait_for_output(master, job, b"ready")
    return job


@pytest.mark.usefixtures("warned")  # its time goes by during the tests from here on
def test_a_job_started_again_by_an_administrator_does_not_run_twice(
    master: GoMaster, new_id: Callable[[], str], storage: Path, user: str
) -> None:
    job = master.launch(make_manifest(["/bin/echo", "once"]), new_id())
    assert master.wait(job) == "COMPLETED"
    assert master.log(job, "output.log") == b"once\n"
    folder = storage / "jobs/environments" / user / job.dispatch_id
    again = subprocess.run(
        [folder / "job.sh"],
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 82
    assert "started job 9 again" in again.stderr
    second = subprocess.run(
        [folder / "job.sh"],
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 83
    assert f"job {job.job_id or ''}" in second.stderr


@pytest.mark.parametrize(
    "name", ["crazy|name", "two\nlines", 'día "q" $(id)', "-n 5", "../../x", "a" * 1500]
)
def test_a_hostile_payload_name_harms_nothing(
    master: GoMaster, new_id: Callable[[], str], name: str
) -> None:
    job = master.launch(make_manifest(["/bin/echo", "fine"], payload=name), new_id())
    info = master.status(job)
    assert list(info["payloadStates"]) == [name]
    wait_until(lambda: master.status(job)["state"] == "COMPLETED", "the job completes", limit_s=60)
    master.delete(job)


def test_users_options_reach_slurm_as_they_are(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm
) -> None:
    options = ["--hold", '--comment=it\'s `id` "$HOME" # no comment \\', "-A team", '--wckey="a b"']
    job = master.launch(make_manifest(slurm_arguments=options), new_id())
    master.wait(job, "PENDING")
    job_id = master.status(job)["additionalProperties"]["job-id"]
    shown = slurm.run(["scontrol", "show", "job", job_id]).stdout
    assert 'Comment=it\'s `id` "$HOME" # no comment \\ shipway:' in shown
    assert "Reason=JobHeldUser" in shown
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_deleting_a_live_job_ends_it_and_removes_its_files(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm, storage: Path, user: str
) -> None:
    job = master.launch(make_manifest(["/bin/sleep", "600"]), new_id())
    master.wait(job, "RUNNING")
    folder = storage / "jobs/environments" / user / job.dispatch_id
    assert folder.is_dir()
    master.delete(job)
    assert job.job_id is not None
    assert slurm.job_states()[job.job_id] == "CANCELLED"
    assert not folder.exists()
    assert master.poll(job) == "lost"
    assert job.dispatch_id not in master.sweep()


def test_secrets_are_only_in_files_of_mode_0600(
    master: GoMaster, new_id: Callable[[], str], storage: Path
) -> None:
    secret = "hush-hush-4711"
    job = master.launch(make_manifest(environment={"DET_USER_TOKEN": secret}), new_id())
    master.wait(job)
    holders = [
        path
        for path in storage.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]
    assert [path.name for path in holders] == ["task.json"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in holders)
    shown = master.manifest(job)
    assert secret.encode() not in shown
    assert json.loads(shown)["payloads"][0]["name"] == job.payload


def test_gpus_on_nodes_that_slurm_chooses(master: GoMaster, new_id: Callable[[], str]) -> None:
    words = ["/bin/sh", "-c", "echo $SLURM_PROCID/$SLURM_NPROCS $CUDA_VISIBLE_DEVICES"]
    manifest = make_manifest(
        words,
        configuration={"enableNvidia": "true"},
        resources={"instances": {"per-node": 1}, "gpus": {"total": 8}},
    )
    job = master.launch(manifest, new_id())
    assert master.wait(job) == "COMPLETED", job.task_log
    lines = sorted(master.log(job, "output.log").decode().splitlines())
    assert lines == ["0/2 0,1,2,3", "1/2 0,1,2,3"]


def test_more_gpus_than_there_are_is_refused_in_sbatchs_words(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    resources = {"instances": {"per-node": 1}, "gpus": {"total": 100}}
    with pytest.raises(Refused) as refusal:
        master.launch(make_manifest(resources=resources), new_id())
    assert refusal.value.status == 500
    assert refusal.value.task_log_text.strip() == (
        "sbatch: error: Batch job submission failed: Requested node configuration is not available"
    )


def test_an_unknown_partition_is_refused_in_sbatchs_words(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    name = new_id()
    with pytest.raises(Refused) as refusal:
        master.launch(make_manifest(configuration={"queue": "nosuch"}), name)
    assert "invalid partition specified: nosuch" in refusal.value.task_log_text
    job = master.launch(make_manifest(), name)
    assert master.wait(job) == "COMPLETED", "the same id can be tried again"


def test_an_unknown_option_is_refused_in_sbatchs_words(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    options = ["--thisisnotavalidslurmoption = willfail"]
    with pytest.raises(Refused) as refusal:
        master.launch(make_manifest(slurm_arguments=options), new_id())
    assert "sbatch: unrecognized option" in refusal.value.task_log_text


def test_excluded_nodes_are_merged_and_unknown_ones_left_out(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    options = ["--exclude=n1,gone", "--mem=50", "-x n[2-3]"]
    words = ["/bin/sh", "-c", "echo $SLURMD_NODENAME"]
    job = master.launch(make_manifest(words, slurm_arguments=options), new_id())
    assert master.wait(job) == "COMPLETED", job.task_log
    assert master.log(job, "output.log") == b"n4\n"
    with pytest.raises(Refused, match="node configuration is not available"):
        master.launch(make_manifest(slurm_arguments=["--exclude=n[1-4]"]), new_id())


def test_a_repeated_launch_makes_no_second_job(
    master: GoMaster, new_id: Callable[[], str], slurm: Slurm
) -> None:
    manifest, name = make_manifest(["/bin/sleep", "600"]), new_id()
    first = master.status(master.launch(manifest, name))
    job = master.launch(manifest, name)
    assert master.status(job)["additionalProperties"] == first["additionalProperties"]
    with pytest.raises(Refused, match="another launch"):
        master.launch(make_manifest(["/bin/true"]), name)
    names = slurm.run(["squeue", "-h", "-o", "%j"]).stdout.split()
    assert sum(name in found for found in names) == 1
    master.kill(job)
    master.wait(job)


def test_dispatches_outlive_a_killed_launcher(
    master: GoMaster, launcher: Launcher, new_id: Callable[[], str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    words = ["/bin/sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.1; done; exit 5"]
    data = [{"name": "ds0", "source": str(tmp_path), "target": str(tmp_path), "readOnly": False}]
    going, ended = (
        master.launch(make_manifest(words, data=data), new_id()),
        master.launch(make_manifest(), new_id()),
    )
    master.wait(going, "RUNNING")
    assert master.wait(ended) == "COMPLETED"
    token = launcher.token_file.read_text()
    launcher.kill()
    gate.touch()
    launcher.start()
    assert launcher.token_file.read_text() == token
    assert master.wait(going) == "FAILED"
    assert "Exit Code 5" in going.task_log[-1]
    assert master.status(ended)["state"] == "COMPLETED"


def test_a_job_that_slurm_has_forgotten_ends_by_what_it_left(
    master: GoMaster, launcher: Launcher, new_id: Callable[[], str], storage: Path
) -> None:
    """A launcher that was away for longer than Slurm remembers finds the exit file."""
    done, gone = new_id(), new_id()
    jobs = [
        master.launch(make_manifest(["/bin/sh", "-c", "exit 9"]), name) for name in (done, gone)
    ]
    for job in jobs:
        master.wait(job)
    launcher.stop()
    for number, name in enumerate((done, gone)):
        record = storage / "dispatches" / name / "record.json"
        content = json.loads(record.read_text())
        content |= {"state": "RUNNING", "job_id": str(4_000_000 + number)}
        record.write_text(json.dumps(content))
    left = next((storage / "jobs/environments").glob(f"*/{done}/exit"))
    left.write_text("9 4000000\n")
    launcher.start()
    assert master.wait(jobs[0]) == "FAILED"
    assert "Exit Code 9" in jobs[0].task_log[-1]
    assert master.wait(jobs[1]) == "MISSING"
    assert "Slurm job is in a missing state" in jobs[1].task_log[-1]


def test_a_job_that_the_warning_of_its_time_limit_ends_says_so(
    master: GoMaster, warned: Job
) -> None:
    assert master.wait(warned, limit_s=90) == "FAILED"
    assert "due to reason 'TimeLimit'" in warned.task_log[-1]
    assert "Exit Code 138" in warned.task_log[-1], "the user's own signal reached the task"
    assert "Of its time limit of 60 s it had" in warned.task_log[-1]


def test_resources_are_as_the_master_reads_them(master: GoMaster, slurm: Slurm) -> None:
    slurm.wait_idle()
    found = master.query("Resources")
    assert [row["partitionName"] for row in found["partitions"]] == ["gpu", "cancel", "urgent"]
    assert found["partitions"][0] == {
        "partitionName": "gpu",
        "default": True,
        "totalNodes": 4,
        "totalAvailableNodes": 4,
        "totalAllocatedNodes": 0,
        "totalGpuSlots": 16,
        "totalAvailableGpuSlots": 16,
        "totalCpuSlots": 32,
        "totalAvailableCpuSlots": 32,
        "accelerator": "unconfigured",
    }
    assert [row["name"] for row in found["nodes"]] == list(slurm.nodes)
    assert found["nodes"][0] == {
        "name": "n1",
        "partitions": ["gpu", "cancel", "urgent"],
        "addresses": ["127.0.0.1"],
        "draining": False,
        "allocated": False,
        "gpuCount": 4,
        "gpuInUseCount": 0,
        "cpuCount": 8,
        "cpuInUseCount": 0,
    }


def test_other_peoples_jobs_are_in_the_queue_whatever_their_names(
    master: GoMaster, slurm: Slurm
) -> None:
    name = 'evil|\n99999: {"state": RUNNING}\n~x~|b| día 😀'
    arguments = ["-J", name, "--gpus=3", "--hold", "-o", "/dev/null", "--wrap", "true"]
    job_id = slurm.run(["sbatch", "--parsable", *arguments]).stdout.strip()
    wait_until(lambda: job_id in master.query("Queues"), "the job is listed", limit_s=60)
    found = master.query("Queues")
    assert found[job_id] == {
        "state": "PENDING",
        "name": name,
        "partition": "gpu",
        "submitTime": found[job_id]["submitTime"],
        "userName": found[job_id]["userName"],
        "gpuSlots": "3",
        "cpuSlots": found[job_id]["cpuSlots"],
        "reasonCode": "JobHeldUser",
        "reasonDesc": "The job is held by its user; `scontrol release` lets it go",
    }
    assert abs(time.time() - _epoch(found[job_id]["submitTime"])) < 60
    assert "99999" not in found
    slurm.run(["scancel", job_id])


def _epoch(text: str) -> float:
    at = datetime.fromisoformat(text)
    assert at.tzinfo is not None
    return at.timestamp()
