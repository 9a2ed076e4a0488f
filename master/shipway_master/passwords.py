"""Passwords: hashed by the client with a fixed salt, and by us with argon2 on top of that."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_CLIENT_SALT: Final = "GubPEmmotfiK9TMD6Zdw"
"""Every client of Determined puts this before the password."""

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(2, thread_name_prefix="argon2")
"""Two at a time: one check takes 64 MiB and a tenth of a second of a core."""


def client_hash(password: str) -> str:
    """Hash *password* as a client does before sending it; the empty one stays empty."""
    if not password:
        return ""
    return hashlib.sha512((_CLIENT_SALT + password).encode()).hexdigest()


async def hash_password(sent: str, *, is_hashed: bool) -> str | None:
    """Make what is stored for a password as it was *sent*; None stands for the empty one.

    Args:
        is_hashed: *sent* is already the client's hash, not the password.
    """
    hashed = sent if is_hashed else client_hash(sent)
    if not hashed:
        return None
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, hashed)


async def verify_password(stored: str | None, sent: str, *, is_hashed: bool) -> bool:
    """Tell whether the password *sent* is the *stored* one; None has the empty one.

    It takes as long without a stored password as with one, so that the time tells nothing.
    """
    hashed = sent if is_hashed else client_hash(sent)
    return await asyncio.get_running_loop().run_in_executor(_threads, _verify, stored, hashed)


@cache
def _decoy() -> str:
    return _hasher.hash("")


def _verify(stored: str | None, hashed: str) -> bool:
    try:
        if stored is None:
            return _hasher.verify(_decoy(), hashed)
        return _hasher.verify(stored, hashed)
    except (VerificationError, InvalidHashError):
        return False
