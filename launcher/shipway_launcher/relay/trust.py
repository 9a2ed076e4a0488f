"""By which certificates the master is verified; read again when their file changes."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.filestamp import stamp_of

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Certificates, for those who take them in one form and for those who take the other."""

    roots: bytes | None
    """In PEM; None: the system's."""
    context: ssl.SSLContext


class MasterTrust:
    """The file of certificates, or the system's authorities."""

    def __init__(self, file: Path | None, *, look_every_s: float = _LOOK_EVERY_S) -> None:
        """Use *file*, which is read when it is first needed; None: the system's authorities."""
        self._file, self._look_every_s = file, look_every_s
        self._trust: Trust | None = None
        self._stamp: object = None
        self._looked_at_s = 0.0
        self._looking = asyncio.Lock()

    async def current(self) -> Trust:
        """Return what to trust now; the same object as long as nothing has changed.

        Raises:
            OSError: There is no such file, or no certificate in it, and never was.
        """
        async with self._looking:
            if self._trust is None:
                trust, self._stamp = await asyncio.to_thread(self._read)
                self._trust, self._looked_at_s = trust, time.monotonic()
                return trust
            if self._file and time.monotonic() - self._looked_at_s >= self._look_every_s:
                self._looked_at_s = time.monotonic()
                self._trust = await asyncio.to_thread(self._renewed, self._trust)
            return self._trust

    def _renewed(self, before: Trust) -> Trust:
        if self._file is None or stamp_of([self._file]) == self._stamp:
            return before
        try:
            trust, self._stamp = self._read()
        except OSError as error:
            self._stamp = stamp_of([self._file])  # said once
            log.warning("the master's new certificates are not used: %s", error)
            return before
        log.info("the master is verified by new certificates", extra={"file": str(self._file)})
        return trust

    def _read(self) -> tuple[Trust, object]:
        if self._file is None:
            return Trust(roots=None, context=ssl.create_default_context()), None
        stamp = stamp_of([self._file])
        try:
            roots = self._file.read_bytes()
            context = ssl.create_default_context(cadata=roots.decode("ascii", "replace"))
        except OSError as error:
            raise OSError(f"relay.tls.certificate_file: {self._file}: {error}") from error
        return Trust(roots=roots, context=context), stamp
