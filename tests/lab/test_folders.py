"""What a killed test run leaves behind is ended by the next one."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.lab.folders import command_of, new_folder, remove_folder, remove_leftovers

LEAVE = """
import subprocess, sys
from tests.lab.folders import new_folder
folder = new_folder("left")
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # holds no pipe of the test
child = subprocess.Popen(["sleep", "600"], env={"LEFT": f"{folder}/"}, **quiet)
print(folder, child.pid)
"""


def test_leftovers_of_a_run_that_is_gone_are_removed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVE], capture_output=True, text=True, check=True, timeout=60
    )
    folder, pid = done.stdout.split()
    assert os.path.exists(folder)
    mine = new_folder("mine")
    try:
        remove_leftovers()
        assert not os.path.exists(folder)
        assert b"sleep" not in command_of(int(pid))
        assert mine.exists()
    finally:
        remove_folder(mine)
