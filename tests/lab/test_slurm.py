"""The private Slurm is a real one: jobs run on several nodes, and two clusters do not meet."""

from __future__ import annotations

from pathlib import Path

from tests.lab.folders import new_folder
from tests.lab.processes import is_alive, wait_until
from tests.lab.slurm import Slurm


def test_a_step_runs_on_two_nodes_with_their_gpus(slurm: Slurm) -> None:
    done = slurm.run(
        [
            "srun",
            "-N2",
            "-n2",
            "--gpus-per-node=4",
            "printenv",
            "SLURMD_NODENAME",
            "SLURM_STEP_GPUS",
        ]
    )
    assert sorted(done.stdout.split()) == ["0,1,2,3", "0,1,2,3", "n1", "n2"]


def test_two_clusters_run_at_once(slurm: Slurm) -> None:
    with Slurm(new_folder("slurm"), nodes=2) as other:
        assert other.run(["srun", "-N2", "hostname"]).returncode == 0
        words = ["sbatch", "--parsable", "-J", "of-the-other", "-o", "/dev/null"]
        job = other.run([*words, "--wrap", "sleep 60"]).stdout
        other.wait_for_job(job.strip(), "RUNNING")
        assert "of-the-other" in other.run(["squeue", "-h", "-o", "%j"]).stdout
        assert "of-the-other" not in slurm.run(["squeue", "-h", "-o", "%j"]).stdout
        folder = other.folder
    assert not folder.exists()


def test_a_restarted_controller_still_knows_its_job(slurm: Slurm) -> None:
    job = slurm.run(
        ["sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 60"]
    ).stdout.strip()
    slurm.wait_for_job(job, "RUNNING")
    slurm.restart_controller()
    slurm.wait_for_job(job, "RUNNING")
    slurm.clear()
    assert slurm.job_states()[job] == "CANCELLED"


def test_stop_ends_the_processes_of_jobs(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    cluster = Slurm(new_folder("slurm"), nodes=1)
    with cluster:
        job = cluster.run(
            ["sbatch", "--parsable", "-o", "/dev/null", "--wrap", f"echo $$ > {note}; sleep 600"]
        ).stdout.strip()
        cluster.wait_for_job(job, "RUNNING")
        wait_until(lambda: note.exists() and note.read_text(), "the job's pid", limit_s=60)
        pid = int(note.read_text())
        assert is_alive(pid)
    assert not is_alive(pid)
