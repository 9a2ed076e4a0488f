"""A network bridge for the containers of one engine."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from tests.lab.processes import LabError, is_alive, run


class Bridge:
    """A bridge with a subnet that the machine does not use; name and address known after start."""

    def __init__(self) -> None:
        self.name = f"lab{os.getpid()}x{random.randrange(16**4):04x}"
        self.address = ""
        self._is_there = False

    def start(self) -> None:
        """Make the bridge. Raises LabError when it cannot be made."""
        used = run(["ip", "-4", "-o", "addr"]).stdout + run(["ip", "-4", "route"]).stdout
        for _ in range(50):
            subnet = f"10.{random.randrange(180, 250)}.{random.randrange(256)}"
            if subnet not in used:
                break
        else:
            raise LabError(f"no free subnet for a bridge among:\n{used}")
        run(["ip", "link", "add", self.name, "type", "bridge"])
        self._is_there = True
        self.address = f"{subnet}.1"
        run(["ip", "addr", "add", f"{self.address}/24", "dev", self.name])
        run(["ip", "link", "set", self.name, "up"])

    @staticmethod
    def remove_leftovers() -> None:
        """Remove the bridges of test runs that are gone."""
        for name in Path("/sys/class/net").glob("lab*x*"):
            owner = re.fullmatch(r"lab(\d+)x[0-9a-f]{4}", name.name)
            if owner and not is_alive(int(owner[1])):
                run(["ip", "link", "del", name.name], check=False)

    def stop(self) -> None:
        """Remove the bridge."""
        if self._is_there:
            run(["ip", "link", "del", self.name], check=False)
            self._is_there = False
