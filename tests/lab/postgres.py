"""A private PostgreSQL server, and databases in it."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import free_ports, run

_PROGRAMS = ("initdb", "pg_ctl", "psql")
_FOLDERS = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
_PATH = os.pathsep.join([*_FOLDERS, os.environ.get("PATH", os.defpath)])


def missing() -> list[str]:
    """Name what this machine lacks for it."""
    lacking = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
    if os.geteuid() == 0 and not _has_user("postgres"):
        lacking.append("the user postgres")
    return lacking


class Postgres:
    """A server on a port of its own; entered, it runs. It does not sync: its data is for tests."""

    def __init__(self) -> None:
        self._folder = new_folder("postgres")
        self._data = self._folder / "data"
        [self._port] = free_ports(1)
        self._numbers = itertools.count(1)
        self._unused: list[str] = []

    def __enter__(self) -> Self:
        if os.geteuid() == 0:  # which the server refuses to be
            shutil.chown(self._folder, "postgres")
        self._as_owner("initdb", "-D", self._data, "-U", "shipway", "-A", "trust", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        remove_folder(self._folder)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = self._folder / "log"
        self._as_owner("pg_ctl", "-D", self._data, "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        """Stop the server: those who are connected lose their connections."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            self._as_owner("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def make_database(self, *, like: str | None = None) -> str:
        """Make a database, empty or a copy of the one of a URL; returns its URL."""
        name = f"d{next(self._numbers)}"
        template = f" TEMPLATE {like.rpartition('/')[2]}" if like else ""
        statements = [f"DROP DATABASE {unused} WITH (FORCE)" for unused in self._unused]
        self._unused.clear()
        statements.append(f"CREATE DATABASE {name}{template}")
        self._as_owner(
            *("psql", "-h", self._folder, "-p", str(self._port), "-U", "shipway"),
            *("-d", "postgres", "-q", *(word for text in statements for word in ("-c", text))),
        )
        return f"postgresql://shipway@127.0.0.1:{self._port}/{name}"

    def forget_database(self, url: str) -> None:
        """Have a database removed when the next one is made: hundreds would fill the disk."""
        self._unused.append(url.rpartition("/")[2])

    def _as_owner(self, *words: str | Path) -> None:
        become: Sequence[str] = ()
        if os.geteuid() == 0:
            become = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
        run([*become, *words], environment={"PATH": _PATH}, folder=self._folder, limit_s=60)


def _has_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False
