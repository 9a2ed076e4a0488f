"""Who calls: from a token to what it stands for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from shipway_launcher.errors import LauncherError, NotAllowed
from shipway_launcher.filestamp import stamp_of
from shipway_launcher.tokenbook import TokenBook, TokenEntry, digest_of
from shipway_launcher.tokens import read_token

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_NUDGE_EVERY_S = 300.0
_LONGEST_TOKEN = 4096


class Callers:
    """Knows all tokens; what is changed in their files counts within a second."""

    def __init__(
        self,
        auth_file: Path,
        book: TokenBook,
        *,
        own_user: str,
        grace: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; `load` reads the files.

        Args:
            auth_file: The administrator's token.
            book: All others.
            own_user: Whom the administrator's token stands for.
            grace: For how long a token that was in auth_file is still taken.
            clock: Tells when to look at the files again.
        """
        self._auth_file, self._book = auth_file, book
        self._own_user, self._grace, self._clock = own_user, grace, clock
        self._entries: dict[str, TokenEntry] = {}
        self._stamp: object = None
        self._looked_at = -_LOOK_EVERY_S
        self._nudged_at: dict[str, float] = {}

    async def load(self) -> None:
        """Read the files.

        Raises:
            LauncherError: One cannot be read.
            OSError: There is no auth_file.
        """
        stamp = await asyncio.to_thread(self._stamps)
        self._entries = await asyncio.to_thread(self._read)
        self._stamp = stamp

    async def find(self, token: str) -> TokenEntry:
        """Return what a token stands for.

        Raises:
            NotAllowed: Nothing; the text says why.
        """
        if not token or len(token) > _LONGEST_TOKEN:
            raise NotAllowed(
                "the request needs the header `Authorization: Bearer TOKEN` with the token in the"
                " launcher's auth_file, or one from `shipway-launcher token create`"
            )
        digest = digest_of(token)
        if digest not in self._entries or self._clock() - self._looked_at >= _LOOK_EVERY_S:
            await self._look_again()
        entry = self._entries.get(digest)
        if entry is None:
            raise NotAllowed(
                "the token is not known here: it is neither the one in auth_file nor one from"
                " `shipway-launcher token create`, or it has been revoked"
            )
        if entry.has_expired(datetime.now(UTC)):
            raise NotAllowed(f"the token has expired at {entry.expires_at}")
        return entry

    def is_to_learn(self, entry: TokenEntry) -> bool:
        """Say whether this caller should be made to read auth_file again, now and then.

        The Go master does so only after a refusal of some calls; and it has to before the token that
        it holds, which is another one by now, is refused altogether.
        """
        now = self._clock()
        if not entry.is_replaced or now - self._nudged_at.get(entry.id, -1e9) < _NUDGE_EVERY_S:
            return False
        self._nudged_at[entry.id] = now
        return True

    async def _look_again(self) -> None:
        self._looked_at = self._clock()
        stamp = await asyncio.to_thread(self._stamps)
        if stamp == self._stamp:
            return
        try:
            self._entries = await asyncio.to_thread(self._read)
        except (LauncherError, OSError) as error:
            log.error("tokens were changed and cannot be read; those known before count: %s", error)
        else:
            log.info("tokens were read again")
        self._stamp = stamp

    def _read(self) -> dict[str, TokenEntry]:
        return self._book.note_current(
            lambda: read_token(self._auth_file), user=self._own_user, grace=self._grace
        )

    def _stamps(self) -> object:
        return stamp_of([self._auth_file, self._book.path])
