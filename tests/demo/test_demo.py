"""`make demo`, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lab.slurm import Slurm

ROOT = Path(__file__).parents[2]


def run_demo(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_the_demo_succeeds_without_any_service(tmp_path: Path) -> None:
    shown = run_demo("--no-slurm", "--folder", str(tmp_path / "demo"))
    assert "✘" not in shown


@pytest.mark.slurm
@pytest.mark.timeout(300)
def test_the_demo_succeeds_with_slurm(slurm: Slurm, tmp_path: Path) -> None:
    shown = run_demo("--slurm", "--folder", str(tmp_path / "demo"), environment=slurm.environment)
    assert "✘" not in shown
    assert shown.count("what was seen") == 2


def test_a_missing_slurm_is_a_reason_and_a_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--slurm", "--folder", str(tmp_path / "demo")],
        cwd=ROOT,
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "sinfo is not on PATH" in done.stdout
