"""The key that calls of webhooks are signed with."""

from __future__ import annotations

import secrets
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_master.errors import CannotStart


def load_key(path: Path) -> str:
    """Read the key in a file, which is made if it is not there; blocking.

    Raises:
        OSError: The file cannot be read or written.
        CannotStart: It holds no key.
    """
    try:
        key = path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        key = secrets.token_urlsafe(32)
        write_atomic(path, f"{key}\n".encode())
    if not key:
        raise CannotStart(f"{path} holds no key: write one there, or remove the file")
    return key
