"""The book of tokens: who has one, for what and until when. It holds no token. Blocking."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shipway_common.files import write_atomic
from shipway_launcher.errors import NotFound, StorageError

_VERSION = 1
_FORGET = timedelta(days=7)
"""For so long an expired token is told from one that never was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """What one token stands for."""

    digest: str
    """SHA-256 of the token, which itself is kept nowhere."""
    user: str
    is_admin: bool = False
    is_read_only: bool = False
    scope: str = ""
    """Which master it belongs to; lists of all environments show those of the same scope."""
    created_at: datetime
    expires_at: datetime | None = None
    is_current: bool = False
    """Whether it is the token in auth_file."""
    is_replaced: bool = False
    """Whether it once was."""

    @property
    def id(self) -> str:
        """By which people name it."""
        return self.digest[:12]

    def has_expired(self, now: datetime) -> bool:
        """Say whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


def digest_of(token: str) -> str:
    """Return by what a token is found in the book."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class TokenBook:
    """The file `tokens.json` in job_storage_root, for the launcher's user alone."""

    def __init__(self, root: Path) -> None:
        """Use the job_storage_root *root*."""
        self.path = root / "tokens.json"
        self._lock = root / "tokens.lock"

    def load(self) -> dict[str, TokenEntry]:
        """Return all entries by their digest.

        Raises:
            StorageError: The file is there and cannot be read.
        """
        try:
            record: dict[str, Any] = json.loads(self.path.read_bytes())
            if record["version"] != _VERSION:
                raise ValueError(f"version {record['version']} is not {_VERSION}")
            entries = [_parse(entry) for entry in record["tokens"]]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{self.path} cannot be read: {error!r}") from error
        return {entry.digest: entry for entry in entries}

    def add(self, entry: TokenEntry) -> None:
        """Take in a token.

        Raises:
            StorageError: The book cannot be read or written.
        """
        with self._locked() as entries:
            self._save({**entries, entry.digest: entry})

    def revoke(self, token_id: str) -> None:
        """Take out the token of this id, which nobody can use from now on.

        Raises:
            NotFound: There is none, or it is the one in auth_file, which is replaced instead.
            StorageError: The book cannot be read or written.
        """
        with self._locked() as entries:
            found = [entry for entry in entries.values() if entry.id == token_id]
            if not found:
                raise NotFound(f"there is no token {token_id}")
            if found[0].is_current:
                raise NotFound(f"{token_id} is in auth_file; `token rotate` replaces it")
            self._save({digest: one for digest, one in entries.items() if one is not found[0]})

    def note_current(
        self, read: Callable[[], str], *, user: str, grace: timedelta
    ) -> dict[str, TokenEntry]:
        """Note which token is in auth_file; the one before it stays good for a while.

        Args:
            read: Reads the file.
            user: Whom its token stands for: the launcher's own user.
            grace: For how long a token that was replaced is still taken.

        Returns:
            All entries by their digest.

        Raises:
            StorageError: The book cannot be read or written.
        """
        with self._locked() as entries:
            token = read()
            known = entries.get(digest_of(token))
            if known is not None and known.is_current:
                return entries
            changed = _with_current(entries, token, user=user, grace=grace)
            self._save(changed)
            return changed

    def rotate(
        self, token: str, write: Callable[[str], None], *, user: str, grace: timedelta
    ) -> None:
        """Replace the token in auth_file.

        Args:
            token: The new one.
            write: Writes the file.
            user: Whom it stands for: the launcher's own user.
            grace: For how long the one before it is still taken.

        Raises:
            StorageError: The book cannot be read or written.
        """
        with self._locked() as entries:
            changed = _with_current(entries, token, user=user, grace=grace)
            # Should the second write fail, the launcher notes the new token when it sees the file.
            write(token)
            self._save(changed)

    @contextmanager
    def _locked(self) -> Generator[dict[str, TokenEntry]]:
        """Give the entries, which nobody else changes meanwhile, nor auth_file."""
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{self._lock} cannot be opened: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.load()
        finally:
            os.close(lock)

    def _save(self, entries: Mapping[str, TokenEntry]) -> None:
        oldest = datetime.now(UTC) - _FORGET
        kept = [entry for entry in entries.values() if not entry.has_expired(oldest)]
        record = {"version": _VERSION, "tokens": [_render(entry) for entry in kept]}
        try:
            write_atomic(self.path, json.dumps(record, indent=1).encode())
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error}") from error


def _with_current(
    entries: Mapping[str, TokenEntry], token: str, *, user: str, grace: timedelta
) -> dict[str, TokenEntry]:
    """Return the entries with another token in auth_file."""
    now = datetime.now(UTC)
    changed = {
        digest: replace(entry, is_current=False, is_replaced=True, expires_at=now + grace)
        if entry.is_current
        else entry
        for digest, entry in entries.items()
    }
    made = TokenEntry(
        digest=digest_of(token), user=user, is_admin=True, is_current=True, created_at=now
    )
    return {**changed, made.digest: made}


def _render(entry: TokenEntry) -> dict[str, Any]:
    return {
        "digest": entry.digest,
        "user": entry.user,
        "is_admin": entry.is_admin,
        "is_read_only": entry.is_read_only,
        "scope": entry.scope,
        "created_at": entry.created_at.isoformat(),
        "expires_at": entry.expires_at.isoformat() if entry.expires_at else None,
        "is_current": entry.is_current,
        "is_replaced": entry.is_replaced,
    }


def _parse(record: Mapping[str, Any]) -> TokenEntry:
    expires = record["expires_at"]
    return TokenEntry(
        digest=record["digest"],
        user=record["user"],
        is_admin=record["is_admin"],
        is_read_only=record["is_read_only"],
        scope=record["scope"],
        created_at=datetime.fromisoformat(record["created_at"]),
        expires_at=None if expires is None else datetime.fromisoformat(expires),
        is_current=record["is_current"],
        is_replaced=record["is_replaced"],
    )
