"""A daemon as a service: what it tells systemd, by the protocol of sd_notify(3)."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_LOOK_INTERVAL_S = 2.0
_SYSTEMD_RUNS = Path("/run/systemd/system")  # as sd_booted(3) asks


class ServiceManager:
    """Who started the daemon, if it is systemd; else nobody listens and every call does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find the manager in the environment of the process."""
        self._address = environ.get(_SOCKET, "")
        self._watchdog_s = _watchdog_s(environ) if self._address else None
        self._is_ready = False
        self._told = ""
        self.describe: Callable[[], str] = lambda: "starting"
        """What the daemon is doing, in a few words; asked every two seconds."""

    @property
    def makes_units(self) -> bool:
        """Whether it can be asked to hold other programs: the system's own systemd, asked by root."""
        return bool(
            self._address
            and os.geteuid() == 0
            and _SYSTEMD_RUNS.is_dir()
            and shutil.which("systemd-run")
        )

    def ready(self) -> None:
        """Say that the daemon serves; only the first time counts."""
        if not self._is_ready:
            self._is_ready = True
            self._told = self.describe()
            self._send("READY=1", f"STATUS={self._told}")

    def stopping(self) -> None:
        """Say that the daemon is about to end."""
        self._send("STOPPING=1", "STATUS=stopping")

    async def keep_told(self) -> None:
        """Say what the daemon does, and that it lives, until cancelled.

        A sign of life needs the event loop and a free thread: a daemon whose threads all hang in
        calls that do not return can do nothing, and the watchdog is there to end it.
        """
        if not self._address:
            await asyncio.Event().wait()
        interval_s = math.inf if self._watchdog_s is None else self._watchdog_s / 3
        is_due_at = 0.0
        while True:
            lines: list[str] = []
            if self._watchdog_s is not None and time.monotonic() >= is_due_at:
                is_due_at = time.monotonic() + interval_s
                await asyncio.to_thread(_do_nothing)
                lines.append("WATCHDOG=1")
            text = self.describe()
            if text != self._told:
                self._told = text
                lines.append(f"STATUS={text}")
            self._send(*lines)
            await asyncio.sleep(min(_LOOK_INTERVAL_S, interval_s))

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        # A leading @ stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", ", ".join(lines), error)


def without_manager(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* for programs that the daemon starts: they are not the service."""
    ours = {_SOCKET, _WATCHDOG, _WATCHDOG_PID}
    return {name: value for name, value in environ.items() if name not in ours}


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return within how many seconds a sign of life is wanted; None: nobody waits for one."""
    microseconds = environ.get(_WATCHDOG, "")
    is_for_us = environ.get(_WATCHDOG_PID, str(os.getpid())) == str(os.getpid())
    if not microseconds.isdigit() or not int(microseconds) or not is_for_us:
        return None
    return int(microseconds) / 1e6


def _do_nothing() -> None:
    """Take a thread for a moment."""
