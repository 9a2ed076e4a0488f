"""The commands that look at a machine, as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.slots.fake_driver import FakeDriver


def agent(
    *words: str | Path, environ: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "shipway_agent", *map(str, words)],
        env={"PATH": os.environ["PATH"], "COLUMNS": "300", **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_slots_as_json(driver: FakeDriver) -> None:
    driver.says(N=3, HANDLE1=15)
    done = agent("slots", "--slot-type=cuda", "--json", environ=driver.environ)
    assert done.returncode == 0
    slots = json.loads(done.stdout)["slots"]
    assert [(slot["id"], slot["type"], bool(slot["problem"])) for slot in slots] == [
        (0, "cuda", False),
        (1, "cuda", True),
        (2, "cuda", False),
    ]
    assert slots[0]["memory_bytes"] == 8 << 30


def test_slots_as_a_table_says_what_is_wrong(driver: FakeDriver) -> None:
    driver.says(HANDLE1=15)
    done = agent("slots", "--slot-type=cuda", environ=driver.environ)
    assert done.returncode == 0
    assert "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd" in done.stdout
    assert "8.0 GiB" in done.stdout
    assert "the GPU is lost" in done.stdout


def test_slots_that_cannot_be_told_are_an_error(driver: FakeDriver) -> None:
    driver.says(INIT=18)
    done = agent("slots", "--slot-type=cuda", environ=driver.environ)
    assert done.returncode == 1
    assert done.stderr.startswith("shipway-agent: NVML error 18: ")
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run"], "master_host: is not set"),
        (["run", "--master-host=m", "--slot-type=tpu"], "--slot-type: "),
        (["--master-host=m", "--slot-type=tpu"], "--slot-type: "),
        (["slots", "--artificial-slots=many"], "--artificial-slots: "),
    ],
    ids=["no master", "bad type", "no command", "bad number"],
)
def test_a_mistake_in_the_settings_ends_the_program(words: list[str], text: str) -> None:
    done = agent(*words)
    assert done.returncode == os.EX_CONFIG  # on which systemd does not start it again
    assert done.stderr.startswith("shipway-agent: ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_may_come(tmp_path: Path) -> None:
    done = agent("run", "--master-host=m", f"--config={tmp_path}/agent.yaml")
    assert done.returncode == 1
    assert done.stderr == f"shipway-agent: {tmp_path}/agent.yaml: there is no such file\n"


def test_flags_that_have_no_effect_any_more_are_taken(tmp_path: Path) -> None:
    done = agent(
        *("run", "--master-host=m", "--label=gpu", "--fluent-port=9090", "--slot-type=tpu"),
        environ={"DET_LOG_COLOR": "true"},
    )
    assert done.returncode == os.EX_CONFIG
    assert "No such option" not in done.stderr
    assert "--fluent-port" not in agent("run", "--help").stdout


def test_a_state_folder_that_cannot_be_used_ends_the_agent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = agent(
        "run", "--master-host=127.0.0.1", "--artificial-slots=1", f"--state-dir={tmp_path}/file/x"
    )
    assert done.returncode == 1
    assert f"{tmp_path}/file" in done.stderr
    assert "Traceback" not in done.stderr
