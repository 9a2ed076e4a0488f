"""The administrator's token: the file that the master reads. Blocking."""

from __future__ import annotations

import grp
import os
import secrets
import stat
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_launcher.errors import SetupError


def load_or_make_token(path: Path, *, group: str | None = None) -> str:
    """Read the token, making one (and its folder) at the first start.

    The file holds the token and nothing else: the master sends all of it, and no client sends a
    line end in a header.

    Args:
        path: The file.
        group: Unix group that may read a file that is made; None: nobody else may.

    Raises:
        SetupError: It cannot be read or written, or others may read it.
    """
    try:
        return read_token(path)
    except FileNotFoundError:
        token = new_token()
    except OSError as error:
        raise SetupError(f"auth_file: {error}") from error
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"auth_file: {error}") from error
    write_token(path, token, group=group)
    return token


def write_token(path: Path, token: str, *, group: str | None = None) -> None:
    """Replace the token file; whoever reads it sees the old token or the new one.

    Without *group* a file that is there keeps its mode and its group.

    Raises:
        SetupError: It cannot be written, or there is no such group.
    """
    mode, group_id = 0o600, None
    try:
        if group is not None:
            mode, group_id = 0o640, grp.getgrnam(group).gr_gid
        elif path.exists():
            status = path.stat()
            mode = stat.S_IMODE(status.st_mode) & 0o640
            group_id = None if status.st_gid == os.getegid() else status.st_gid
        write_atomic(path, token.encode(), mode=mode, group_id=group_id)
    except KeyError:
        raise SetupError(f"auth_file_group: there is no group {group}") from None
    except OSError as error:
        raise SetupError(f"auth_file: {error}") from error


def new_token() -> str:
    """Make a token that nobody can guess."""
    return secrets.token_urlsafe(32)


def read_token(path: Path) -> str:
    """Read the token.

    Raises:
        OSError: There is no such file, or it cannot be read.
        SetupError: Others may read it, or it holds something else.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o027:
        raise SetupError(
            f"auth_file: {path} has mode {mode:04o}, which lets others use the token; chmod 600"
            " it (or 640 for the master's group)"
        )
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise SetupError(
            f"auth_file: {path} must hold the token alone, without a line end; remove the file and"
            " the launcher makes a new one at its next start"
        )
    return text
