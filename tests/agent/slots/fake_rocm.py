"""A machine whose AMD cards are told by stand-ins for rocm-smi and amd-smi."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from shipway_agent.slots.detect import SlotOptions

_data = Path(__file__).with_name("data") / "rocm"

# What each run does is read anew, so that a test can change it while an agent runs.
_program = """\
#!/bin/sh
printf '%s\\n' "$(basename "$0") $*" >> "{folder}/calls"
. "{folder}/before" 2>/dev/null
for word; do [ -f "{folder}/refuses$word" ] && exit 2; done
cat "{folder}/stderr" >&2
cat "{folder}/stdout"
exit "$(cat "{folder}/status")"
"""


class FakeRocm:
    """A machine with AMD cards."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._folder = folder / "rocm-says"
        self._folder.mkdir()
        for name in ("proc", "dev", "opt/rocm/bin", "sys/bus/pci/devices"):
            (self.root / name).mkdir(parents=True)
        (self.root / "proc/cpuinfo").write_text("processor : 0\nmodel name : Some CPU\n")
        self.environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        self.says("")

    def install(self, name: str = "rocm-smi") -> None:
        """Put a program where ROCm's installer puts it, which no service has in its PATH."""
        file = self.root / "opt/rocm/bin" / name
        file.write_text(_program.format(folder=self._folder))
        file.chmod(0o755)

    def says(self, stdout: str, *, stderr: str = "", status: int = 0, before: str = "") -> None:
        """Let the program print so and end so from now on.

        Args:
            before: Shell commands to run first.
        """
        texts = {"stdout": stdout, "stderr": stderr, "status": str(status), "before": before}
        for name, text in texts.items():
            aside = self._folder / f"{name}.new"
            aside.write_text(text)
            aside.replace(self._folder / name)

    def says_file(self, name: str) -> None:
        """Let the program print a recorded output."""
        self.says((_data / name).read_text())

    def refuses(self, word: str) -> None:
        """Let the program end with 2 when it is given this word."""
        (self._folder / f"refuses{word}").touch()

    def calls(self) -> list[str]:
        """Return how it was called so far."""
        file = self._folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def plug(self, bus: str, *, counts: dict[str, str] | None = None, kfd: int = 0) -> None:
        """Have a card on the bus, with the files in which the driver counts its errors."""
        card = self.root / "sys/bus/pci/devices" / bus
        card.mkdir(exist_ok=True)
        (card / "vendor").write_text("0x1002\n")
        (card / "class").write_text("0x120000\n")
        for block, text in (counts or {}).items():
            (card / "ras").mkdir(exist_ok=True)
            (card / "ras" / f"{block}_err_count").write_text(text)
        if kfd:
            node = self.root / f"sys/class/kfd/kfd/topology/nodes/{kfd}"
            node.mkdir(parents=True)
            (node / "properties").write_text(
                "cpu_cores_count 0\nsimd_count 880\nmem_banks_count 1\n"
            )

    def unplug(self, bus: str) -> None:
        """Have no card on the bus."""
        shutil.rmtree(self.root / "sys/bus/pci/devices" / bus)

    def options(self, **changes: object) -> SlotOptions:
        values: dict[str, object] = {
            "agent_id": "node",
            "slot_type": "rocm",
            "timeout_s": 30.0,
            "environ": self.environ,
            "root": self.root,
            **changes,
        }
        return SlotOptions(**values)  # type: ignore[arg-type]
