"""One agent per state folder."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shipway_agent.errors import StateFolderTaken, StateFolderUnusable
from shipway_agent.statelock import find_owner, lock_state_dir

_HOLD = """
import sys
from pathlib import Path
from shipway_agent.statelock import lock_state_dir
with lock_state_dir(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_named_until_it_ends_however(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert find_owner(folder) is None
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert find_owner(folder) == str(other.pid)
        with pytest.raises(StateFolderTaken, match=f"process {other.pid}"), lock_state_dir(folder):
            pytest.fail("two have it")
        other.send_signal(signal.SIGKILL)
    assert find_owner(folder) is None
    with lock_state_dir(folder):
        assert find_owner(folder) == str(os.getpid())


def test_the_folder_lets_others_through_but_not_look(tmp_path: Path) -> None:
    with lock_state_dir(tmp_path / "a/state"):
        assert stat.S_IMODE((tmp_path / "a/state").stat().st_mode) == 0o711


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    state_dir = tmp_path / "file/state"
    with (
        pytest.raises(StateFolderUnusable, match=r"state_dir .*file/state"),
        lock_state_dir(state_dir),
    ):
        pytest.fail("it has one")
