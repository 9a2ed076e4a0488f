"""A network bridge for the containers of one engine."""

from __future__ import annotations

import os
import random
import re
import shutil
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


class Host:
    """A network namespace on a bridge: another machine, as far as the network goes.

    Its link can be taken down, and packets can be dropped on their way in or out, so that a TCP
    connection lies dead without either side being told.
    """

    def __init__(self, bridge: Bridge, number: int) -> None:
        """Make the machine number *number* (2 to 254) of the bridge's subnet."""
        self.name = f"{bridge.name}n{number}"
        self.address = f"{bridge.address.rpartition('.')[0]}.{number}"
        self._bridge = bridge
        self._cable = f"{bridge.name[:9]}v{number}"  # 15 characters at most

    @property
    def within(self) -> tuple[str, ...]:
        """What to put before a command so that it runs on this machine.

        Not `ip netns exec`, which would hide cgroups below a /sys of its own.
        """
        return ("nsenter", f"--net=/run/netns/{self.name}")

    def start(self) -> None:
        """Make the machine and connect it."""
        run(["ip", "netns", "add", self.name])
        inside = ["ip", "-n", self.name]
        run(["ip", "link", "add", self._cable, "type", "veth", "peer", "eth0", "netns", self.name])
        run(["ip", "link", "set", self._cable, "master", self._bridge.name])
        run([*inside, "addr", "add", f"{self.address}/24", "dev", "eth0"])
        for link in ("lo", "eth0"):
            run([*inside, "link", "set", link, "up"])
        self.plug()

    def stop(self) -> None:
        """Remove the machine; processes there lose the network for good."""
        run(["ip", "link", "del", self._cable], check=False)
        run(["ip", "netns", "del", self.name], check=False)

    def plug(self) -> None:
        """Have the cable in its place."""
        run(["ip", "link", "set", self._cable, "up"])

    def unplug(self) -> None:
        """Pull the cable out at the bridge's side."""
        run(["ip", "link", "set", self._cable, "down"])

    def drop(self, *chains: str) -> None:
        """Drop what the machine receives (INPUT) or sends (OUTPUT), silently."""
        for chain in chains:
            link = ["-i" if chain == "INPUT" else "-o", "eth0"]
            run([*self.within, "iptables", "-A", chain, *link, "-j", "DROP"])

    def heal(self) -> None:
        """Drop nothing any more."""
        run([*self.within, "iptables", "-F"])

    def break_connections(self, peer_port: int) -> None:
        """Break the machine's connections to a port, as a middlebox does; the peer hears nothing.

        What the machine sends about it must be dropped meanwhile.
        """
        run([*self.within, "ss", "-K", "dport", "=", str(peer_port)])


def missing_tools() -> list[str]:
    """Return what machines on a bridge need and this one lacks."""
    folders = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
    tools = ("ip", "ss", "nsenter", "iptables")
    missing = [tool for tool in tools if not shutil.which(tool, path=folders)]
    return missing if os.geteuid() == 0 else [*missing, "the rights of root"]
