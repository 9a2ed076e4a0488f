"""Names of workspaces and projects, and the keys of projects."""

from __future__ import annotations

import re
import secrets
import string
from typing import Final

from shipway_master.errors import InvalidArgument

_NAME_LIMIT: Final = 80
_KEY_LIMIT: Final = 5
_KEY_PREFIX: Final = 3
_KEY = re.compile(r"[A-Z0-9]{1,5}")
_LETTERS: Final = string.ascii_uppercase + string.digits


def check_name(kind: str, name: str) -> None:
    """Refuse what cannot be a name.

    Raises:
        InvalidArgument: It is empty, too long, or cannot be seen as it is.
    """
    if not name.strip():
        raise InvalidArgument(f"the name of a {kind} must have at least one visible character")
    if len(name) > _NAME_LIMIT:
        raise InvalidArgument(f"the name of a {kind} has at most {_NAME_LIMIT} characters")
    if not name.isprintable() or name != name.strip():
        raise InvalidArgument(f"the name of a {kind} has printable characters, no spaces around it")


def fold_name(name: str) -> str:
    """What two names have in common that differ in case alone."""
    return name.casefold()


def read_key(text: str) -> str:
    """Read a project's key as a user wrote it.

    Raises:
        InvalidArgument: It cannot be one.
    """
    key = text.upper()
    if not _KEY.fullmatch(key):
        raise InvalidArgument(
            f"project key {text[:80]!r}: it has one to {_KEY_LIMIT} letters from A to Z or digits"
        )
    return key


def make_key(name: str) -> str:
    """Make up a key for a project of that name; it may be taken already."""
    letters = "".join(one for one in name.upper() if one in _LETTERS)
    prefix = letters[:_KEY_PREFIX]
    return prefix + "".join(secrets.choice(_LETTERS) for _ in range(_KEY_LIMIT - len(prefix)))
