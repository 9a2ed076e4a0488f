"""A machine whose NVIDIA driver is a stand-in, for what runs no GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from shipway_agent.slots.detect import SlotOptions
from tests.lab.require import require

_source = Path(__file__).with_name("data") / "fake_nvml.c"


class FakeDriver:
    """A machine with a stand-in NVML; what it says can change while it is in use."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._state = folder / "nvml-says"
        self.root = folder / "root"
        (self.root / "proc").mkdir(parents=True)
        (self.root / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some CPU\n")
        (self.root / "dev").mkdir()
        (self.root / "sys/bus/pci/devices").mkdir(parents=True)
        self.environ = {
            "LD_LIBRARY_PATH": str(library.parent),
            "FAKE_NVML": str(self._state),
            "PATH": os.environ["PATH"],
        }
        self.says()

    def says(self, **values: int) -> None:
        """Let the driver answer so from now on."""
        aside = self._state.with_suffix(".new")
        aside.write_text("".join(f"{key} {value}\n" for key, value in values.items()))
        aside.replace(self._state)

    def without_library(self) -> None:
        """Let the machine have no driver library."""
        del self.environ["LD_LIBRARY_PATH"]

    def options(self, **changes: object) -> SlotOptions:
        values: dict[str, object] = {
            "agent_id": "node",
            "timeout_s": 30.0,
            "environ": self.environ,
            "root": self.root,
            **changes,
        }
        return SlotOptions(**values)  # type: ignore[arg-type]


def compile_fake_nvml(folder: Path) -> Path:
    """Compile the stand-in library into *folder*."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    require("the stand-in NVML", [] if compiler else ["gcc"])
    assert compiler
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", library, _source], check=True)
    return library
