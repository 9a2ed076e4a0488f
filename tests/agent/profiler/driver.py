"""GPUs that a stand-in driver library speaks for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.lab.require import require

_source = Path(__file__).with_name("data") / "fake_nvml.c"


def compile_library(folder: Path) -> Path:
    """Compile the stand-in library into *folder*."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    require("the stand-in NVML", [] if compiler else ["gcc"])
    assert compiler
    path = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", path, _source], check=True)
    return path


class Driver:
    """What the stand-in library says; may change while it is read."""

    def __init__(self, library: Path, state: Path) -> None:
        self._state = state
        self.environ = {
            "LD_LIBRARY_PATH": str(library.parent),
            "FAKE_NVML": str(state),
            "PATH": os.environ["PATH"],
        }
        self.says()

    def says(self, **values: int) -> None:
        aside = self._state.with_suffix(".new")
        aside.write_text("".join(f"{key} {value}\n" for key, value in values.items()))
        aside.replace(self._state)
