"""The token that callers of the REST face must send. Blocking."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_launcher.errors import SetupError


def load_or_make_token(path: Path) -> str:
    """Read the token, making one (and its folder) at the first start.

    The file holds the token and nothing else: the master sends all of it, and no client sends a
    line end in a header.

    Raises:
        SetupError: It cannot be read or written, or others may read it.
    """
    try:
        return read_token(path)
    except FileNotFoundError:
        token = secrets.token_urlsafe(32)
    except OSError as error:
        raise SetupError(f"auth_file: {error}") from error
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, token.encode())
    except OSError as error:
        raise SetupError(f"auth_file: {error}") from error
    return token


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
    text = path.read_text()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise SetupError(
            f"auth_file: {path} must hold the token alone, without a line end; remove the file and"
            " the launcher makes a new one at its next start"
        )
    return text
