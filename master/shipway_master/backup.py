"""A whole copy of the database, made while the master runs."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

_PAGES_AT_ONCE = 1000


class BackupFailed(Exception):
    """There is no backup; the text says why."""


def back_up(url: URL, target: Path) -> int:
    """Copy the database of *url* into a new file, which its owner alone can read; blocking.

    The copy is of one moment. It is checked before it gets its name, so that a file of that name
    is always a whole backup.

    Returns:
        Its size in bytes.

    Raises:
        BackupFailed: It could not be made, or is damaged as the database itself is.
    """
    if url.get_backend_name() != "sqlite" or not url.database:
        raise BackupFailed(
            "only SQLite is copied by this command; for PostgreSQL use its own pg_dump"
        )
    source = Path(url.database)
    try:
        if not source.is_file():
            raise BackupFailed(f"there is no database {source}: is --data or --config missing?")
        if target.exists():
            raise BackupFailed(f"{target} exists; give the name of a file that does not")
        # Beside its place, so that the rename cannot fail half-way; mkstemp makes it 0600.
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(descriptor)
        partial = Path(name)
        try:
            _copy(source, partial)
            _sync(partial)
            partial.rename(target)
            _sync(target.parent)
        finally:
            partial.unlink(missing_ok=True)
        return target.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise BackupFailed(f"{source} cannot be copied to {target}: {error}") from error


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as from_,
        closing(sqlite3.connect(target)) as to,
    ):
        from_.backup(to, pages=_PAGES_AT_ONCE)
        # One file: a backup that needed its -wal beside it would be lost with it.
        to.execute("PRAGMA journal_mode=DELETE")
        [found] = to.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise BackupFailed(f"{source} is damaged: {found}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
