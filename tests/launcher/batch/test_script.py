"""The batch script as text, as bash reads it and as sbatch reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from shipway_launcher.batch.script import BatchJob, render_directive, render_script
from shipway_launcher.batch.useroptions import Option
from tests.lab.slurm import Slurm

HOSTILE = [
    "two words",
    'día "q" $(id) `x`',
    "it's",
    "a#b #c",
    "back\\slash \\",
    "#SBATCH --nodes=9",
    "semi;colon & <angle> | * ? ~ ! {a,b}",
    "-n 5",
    "😀",
]


def make_job(**changes: Any) -> BatchJob:
    job = {
        "dispatch_id": "118.2f3c9a52.1",
        "owner": "alice",
        "folder": "/lustre/launcher/jobs/environments/alice/118.2f3c9a52.1",
        "site_options": [Option(name="mail-type", value="NONE")],
        "user_options": [Option(name="mem-per-gpu", value="65536")],
        "own_options": [
            Option(name="job-name", value="det-ai_exp-118-118.2f3c9a52.1"),
            Option(name="comment", value="two words shipway:118.2f3c9a52.1"),
            Option(name="no-requeue"),
        ],
        "notes": ["5 GPUs cannot be shared out; 6 it's"],
        "agent_command": ["/opt/shipway/bin/shipway-agent"],
        "mpi": "pmi2",
        "srun_variables": [("SLURM_CPU_BIND", "none")],
        "needs_equal_gpus": True,
        "before": "module load shipway",
        "after": "echo done",
    }
    return BatchJob(**{**job, **changes})


def test_the_script_is_the_one_that_was_reviewed() -> None:
    reviewed = Path(__file__).with_name("script.sh").read_text()
    assert render_script(make_job()) == reviewed


def test_the_same_job_gives_the_same_script() -> None:
    assert render_script(make_job()) == render_script(make_job())


@pytest.mark.parametrize("text", HOSTILE)
def test_bash_reads_what_was_meant(text: str, tmp_path: Path) -> None:
    job = make_job(
        folder=str(tmp_path),
        notes=[text],
        agent_command=["printf", r"<%s>", text],
        srun_variables=[("SLURM_CPU_BIND", text)],
        before="",
        after="",
    )
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/bash\necho "bind $SLURM_CPU_BIND"\nshift 5\nexec "$@"\n')
    srun.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", render_script(job)],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_NNODES": "1"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"bind {text}\n<{text}><job><{tmp_path}/task.json>"
    assert done.stderr == f"shipway: {text}\n"
    assert (tmp_path / "exit").read_text() == "0 7\n"
    assert (tmp_path / "claim").read_text() == "7\n"


@pytest.mark.parametrize("text", HOSTILE)
def test_sbatch_reads_what_was_meant(text: str, slurm: Slurm, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    options = [
        Option(name="comment", value=text),
        Option(name="hold"),
        Option(name="job-name", value=text),
    ]
    lines = [f"#SBATCH {render_directive(option)}\n" for option in options]
    script.write_text("#!/bin/bash\n" + "".join(lines) + "#SBATCH --output=/dev/null\ntrue\n")
    job_id = slurm.run(["sbatch", "--parsable", script]).stdout.strip()
    seen = slurm.run(["squeue", "-h", "-j", job_id, "-o", "%k|%j|%r"]).stdout
    slurm.run(["scancel", job_id])
    assert seen == f"{text}|{text}|JobHeldUser\n"
