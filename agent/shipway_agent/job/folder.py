"""A job's own folder on the node: for the runtime's state and the rank's private files."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_PREFIX = "shipway-job-"
_LOCK = "lock"


@contextmanager
def job_folder(parent: Path) -> Generator[Path, None, None]:
    """Make a folder that is removed at the end; blocking.

    What jobs left behind that were killed, and could not remove theirs, is removed first: a lock
    that nobody holds any more tells it from the folders of jobs that run.

    Raises:
        OSError: *parent* is missing, full or not writable.
    """
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with (folder / _LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
    finally:
        _remove(folder)


def copy_tree(source: Path, target: Path) -> None:
    """Give the rank its own copy of the task's files, links and modes included; blocking.

    Raises:
        OSError: Some file could not be read or written; names it.
    """
    try:
        shutil.copytree(source, target, symlinks=True)
    except shutil.Error as error:
        raise OSError(f"cannot copy the task's files: {error.args[0][0][2]}") from error


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        except OSError:  # its job runs, begins or ends at this moment, or it is not ours
            continue


def _remove(folder: Path) -> None:
    # A task may have closed folders of its own, even to us.
    for parent, names, _ in os.walk(folder):
        for path in (os.path.join(parent, name) for name in names):
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        log.warning("cannot remove %s; please do it by hand", folder)
