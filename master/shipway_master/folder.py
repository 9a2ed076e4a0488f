"""The data folder: one master alone uses it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from shipway_master.errors import CannotStart


@contextmanager
def held(folder: Path) -> Generator[None]:
    """Make *folder* where it is missing, and keep other masters out of it during the block.

    The lock is the kernel's, so it ends with this process however that ends; the file `lock`
    stays, and means nothing by itself.

    Raises:
        CannotStart: Another master has it, or it cannot be made or written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(f"the data folder {folder} cannot be used: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = os.read(descriptor, 20).decode("ascii", "replace").strip()
            problem = f"the data folder {folder} is in use by another master (process {other})"
            raise CannotStart(f"{problem}: stop that one, or take another folder") from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)
