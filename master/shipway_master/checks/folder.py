"""Look at the settings file and at the data folder; all of it blocks."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, cast

from shipway_common.files import find_existing, find_file_system
from shipway_common.findings import Finding, bad, good, warn
from shipway_master.config import MASK, MasterConfig

_LOW_BYTES: Final = 5 << 30
_FULL_BYTES: Final = 200 << 20
_SHARED_FILE_SYSTEMS: Final = ("nfs", "cifs", "smb", "lustre", "beegfs", "gpfs", "ceph", "fuse")
_FILES_WANTED: Final = 4096


def check_settings_file(config: MasterConfig, file: Path) -> Iterator[Finding]:
    """Look who may read and change the settings."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o022:
        yield bad("settings", f"others may change {file}; chmod go-w {file}")
    if mode & 0o004:
        for key in _find_secrets(config.masked()):
            yield warn(key, f"everybody on this machine may read it; chmod o-r {file}")


def _find_secrets(masked: object, key: str = "") -> Iterator[str]:
    """Give the keys whose values are hidden."""
    if isinstance(masked, Mapping):
        for name, value in cast("Mapping[str, object]", masked).items():
            yield from _find_secrets(value, f"{key}.{name}" if key else name)
    elif isinstance(masked, list):
        for number, value in enumerate(cast("list[object]", masked)):
            yield from _find_secrets(value, f"{key}.{number}")
    elif isinstance(masked, str) and masked.endswith(MASK):
        yield key


def check_data(folder: Path) -> Iterator[Finding]:
    """Look at the folder that everything is in, whether it is there or will be made."""
    above = find_existing(folder)
    if not os.access(above, os.R_OK | os.W_OK | os.X_OK):
        yield bad("data", f"this user cannot use {above}")
        return
    if folder.exists():
        yield from _check_rights(folder)
    kind = find_file_system(above)
    if kind.startswith(_SHARED_FILE_SYSTEMS):
        yield warn(
            "data",
            f"{folder} is on {kind}, where SQLite's locks do not hold; take a local disk, or"
            " PostgreSQL (db.host)",
        )
    else:
        yield good("data", f"{folder} ({kind})")
    yield _check_room(above)
    yield from _check_limits()


def _check_rights(folder: Path) -> Iterator[Finding]:
    status = folder.stat()
    if status.st_uid != os.geteuid():
        yield bad("data", f"{folder} does not belong to this user: check as the one who serves")
    if stat.S_IMODE(status.st_mode) & 0o077:
        yield bad("data", f"{folder} is open to others; chmod go= {folder}")
    for name in ("master.db", "initial-password"):
        file = folder / name
        if file.exists() and file.stat().st_mode & 0o077:
            yield bad("data", f"{file} is open to others; chmod go= {file}")


def _check_room(folder: Path) -> Finding:
    free_bytes = shutil.disk_usage(folder).free
    text = f"{free_bytes / 2**30:.1f} GiB are free"
    if free_bytes < _FULL_BYTES:
        return bad("data", f"{text} where {folder} is: nothing can be stored soon")
    if free_bytes < _LOW_BYTES:
        return warn("data", f"{text} where {folder} is; logs of tasks need room")
    return good("data", text)


def _check_limits() -> Iterator[Finding]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FILES_WANTED:
        yield warn(
            "open files",
            f"this user may have {files} open; each agent and each stream of a log needs some"
            " (ulimit -n, LimitNOFILE= of the unit)",
        )
