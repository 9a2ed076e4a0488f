"""A private Slurm that keeps accounts: slurmdbd and MariaDB in the cluster's folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tests.lab import slurm as slurm_lab
from tests.lab.processes import end, free_ports, pid_in, run, wait_until
from tests.lab.slurm import Slurm

PROGRAMS = ("slurmdbd", "sacct", "mariadbd", "mariadb", "mariadb-install-db")
_SEARCH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"

_CONFIG = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass=lab
StorageLoc=slurm
"""
_DATABASE = """\
create database slurm;
create user slurm@'127.0.0.1' identified by 'lab';
grant all on slurm.* to slurm@'127.0.0.1';
"""


def missing_programs() -> list[str]:
    """Return the programs that accounting needs and this machine lacks."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=_SEARCH)]
    return slurm_lab.missing_programs() + missing


class AccountedSlurm(Slurm):
    """A cluster whose ended jobs `sacct` knows; its accounting can be stopped and started."""

    _database: subprocess.Popen[bytes] | None = None

    @cached_property
    def _ports(self) -> tuple[int, int]:
        port, database_port = free_ports(2)
        return port, database_port

    def stop(self) -> None:
        """End it all, the database too."""
        super().stop()
        if self._database is not None:
            self._database.wait(10)

    def accounting_lines(self) -> Sequence[str]:
        """Say in slurm.conf where accounting is."""
        return [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={self._ports[0]}",
            f"AccountingStoragePass={self.folder}/munge.sock",
        ]

    def start_accounting(self) -> None:
        """Start the database with nothing in it, and slurmdbd."""
        port, database_port = self._ports
        path = self.folder / "slurmdbd.conf"
        path.touch(mode=0o600)
        path.write_text(
            _CONFIG.format(
                folder=self.folder,
                host=socket.gethostname().partition(".")[0],
                port=port,
                database_port=database_port,
                user=slurm_lab.user(),
            )
        )
        self._start_database(database_port)
        self.start_slurmdbd()

    def start_slurmdbd(self) -> None:
        """Start slurmdbd and wait until it answers."""
        self.start_daemon("slurmdbd")
        self.wait_for_pid("slurmdbd")
        wait_until(
            lambda: self.run(["sacctmgr", "-n", "list", "stats"], check=False).returncode == 0,
            "slurmdbd answers",
            limit_s=60,
            logs=self.logs,
        )

    def stop_slurmdbd(self) -> None:
        """End slurmdbd only; the controller keeps for it what happens meanwhile."""
        pid = pid_in(self.folder / "run/slurmdbd.pid")
        if pid is not None:
            end([pid])

    def _start_database(self, port: int) -> None:
        data, user = self.folder / "database", slurm_lab.user()
        own = ["--no-defaults", f"--user={user}", f"--datadir={data}"]
        plain = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        run([_find("mariadb-install-db"), *own, *plain], limit_s=60)
        with (self.folder / "log/mariadbd.log").open("ab") as output:
            self._database = subprocess.Popen(
                [
                    *(_find("mariadbd"), *own, f"--port={port}", "--bind-address=127.0.0.1"),
                    f"--socket={self.folder}/run/db.sock",
                    f"--pid-file={self.folder}/run/mariadbd.pid",
                    *("--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0"),
                    *("--innodb-lock-wait-timeout=900", "--skip-log-bin"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        client = [_find("mariadb"), "--no-defaults", "-S", f"{self.folder}/run/db.sock", "-e"]
        wait_until(
            lambda: run([*client, "select 1"], check=False).returncode == 0,
            "the database answers",
            limit_s=60,
            logs=self.logs,
        )
        run([*client, _DATABASE])


def _find(name: str) -> str | Path:
    return shutil.which(name, path=_SEARCH) or name
