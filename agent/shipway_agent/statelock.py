"""One agent per state folder: two would remove each other's containers."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from shipway_agent.errors import StateFolderTaken, StateFolderUnusable

_NAME = "agent.lock"
_PATIENCE_S = 1.0  # a `check` that looks on holds the lock for an instant
_RETRY_S = 0.05


@contextmanager
def lock_state_dir(state_dir: Path) -> Generator[None]:
    """Hold the folder, made if need be, until the block or the process ends; blocking.

    Raises:
        StateFolderTaken: Another process has it; the text names it.
        StateFolderUnusable: The folder cannot be made or written.
    """
    try:
        # Open to pass through, not to list: a task of another user works in a folder below.
        state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateFolderUnusable(f"state_dir {state_dir} cannot be used: {error}") from error
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise StateFolderTaken(
                    f"another shipway-agent (process {_owner(descriptor)}) uses {state_dir}; stop"
                    " it, or give one of them a state_dir of its own"
                )
            time.sleep(_RETRY_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def find_owner(state_dir: Path) -> str | None:
    """Return the process id of the agent that has the folder, None if none has; blocking.

    Raises:
        OSError: It cannot be told.
    """
    try:
        descriptor = os.open(state_dir / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _try(descriptor, fcntl.LOCK_SH) else _owner(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
