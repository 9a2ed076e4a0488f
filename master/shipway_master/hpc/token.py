"""The token that the launcher wants to see, from the file that the launcher writes."""

from __future__ import annotations

import asyncio
from pathlib import Path


class TokenUnreadable(Exception):
    """The token file is missing or cannot be used; the text names it."""


class TokenFile:
    """A launcher's token, read when first needed and again when the launcher refuses it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._token: str | None = None

    async def get_header(self) -> str:
        """The value of the `Authorization` header; a bare `Bearer` when there is no file.

        Raises:
            TokenUnreadable: The file is not there yet, or not in order.
        """
        if self._path is None:
            return "Bearer"
        if self._token is None:
            self._token = await asyncio.to_thread(_read, self._path)
        return f"Bearer {self._token}"

    def forget(self) -> None:
        """Read the file again next time."""
        self._token = None


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnreadable(f"resource_manager.auth_file {path}: {error}") from error
    if not text or any(ord(character) < 33 for character in text):
        raise TokenUnreadable(f"resource_manager.auth_file {path} holds no token")
    return text
