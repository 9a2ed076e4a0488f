"""Whether files are still those that were read. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def stamp_of(paths: Iterable[Path]) -> tuple[object, ...]:
    """Return something that is different once one of the files has been replaced or written."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:  # missing, or out of reach; who reads it next finds out which
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
