"""Credentials that users hand over for their jobs, kept in files for the launcher's user alone. Blocking."""

from __future__ import annotations

import os
import re
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_launcher.errors import NotFound, StorageError, TooLarge, WrongRequest

LARGEST_BYTES = 1 << 20
_MOST = 100
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class CredentialStore:
    """The folder `credentials` in job_storage_root; the content is never shown again."""

    def __init__(self, root: Path) -> None:
        """Use the job_storage_root *root*."""
        self._folder = root / "credentials"

    def put(self, owner: str, name: str, content: bytes) -> None:
        """Keep a credential, replacing the one that there is.

        Raises:
            WrongRequest: The name cannot be, or the owner has too many.
            TooLarge: It is too large for a credential.
            StorageError: It cannot be written.
        """
        path = self._path(owner, name)
        if len(content) > LARGEST_BYTES:
            raise TooLarge(f"a credential has {LARGEST_BYTES} bytes at most, not {len(content)}")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if not path.exists() and len(os.listdir(path.parent)) >= _MOST:
                raise WrongRequest(f"{owner} has {_MOST} credentials already; delete one first")
            write_atomic(path, content)
        except OSError as error:
            raise StorageError(f"the credential cannot be kept: {error}") from error

    def exists(self, owner: str, name: str) -> bool:
        """Say whether there is such a credential."""
        try:
            return self._path(owner, name).is_file()
        except WrongRequest:
            return False

    def remove(self, owner: str, name: str) -> None:
        """Remove a credential.

        Raises:
            NotFound: There is none.
            StorageError: It cannot be removed.
        """
        if not self.exists(owner, name):
            raise NotFound(f"{owner[:80]} has no credential {name[:200]}")
        try:
            self._path(owner, name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"the credential cannot be removed: {error}") from error

    def _path(self, owner: str, name: str) -> Path:
        for kind, text in (("owner", owner), ("name", name)):
            if not _NAME.fullmatch(text):
                raise WrongRequest(
                    f"{kind}: {text[:80]!r} must be up to 100 letters, digits, dots, hyphens and"
                    " underscores, and begin with none of dot and hyphen"
                )
        return self._folder / owner / name
