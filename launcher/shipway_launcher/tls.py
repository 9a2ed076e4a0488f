"""The certificates that the launcher shows: to its callers, and to jobs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from shipway_launcher.errors import SetupError
from shipway_launcher.filestamp import stamp_of

log = logging.getLogger(__name__)


class Certificate:
    """A certificate with its key; one that is renewed on disk is taken up without a restart."""

    def __init__(self, cert_file: Path, key_file: Path, *, setting: str = "tls") -> None:
        """Use these PEM files, which *setting* names; `load` reads them."""
        self._cert_file, self._key_file, self._setting = cert_file, key_file, setting
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._stamp: object = None

    def load(self) -> None:
        """Read the files. Blocking.

        Raises:
            SetupError: They cannot be read or do not fit together; what was read before stands.
        """
        stamp = self._stamps()
        try:
            # First into a context that nobody uses: half of a new pair must not spoil this one.
            for context in (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), self.context):
                context.load_cert_chain(self._cert_file, self._key_file, _refuse_passphrase)
        except (OSError, ValueError) as error:
            files = f"{self._cert_file} with {self._key_file}"
            raise SetupError(f"{self._setting}: {files}: {error}") from error
        self._stamp = stamp

    async def renew(self, interval_s: float) -> None:
        """Look for new files again and again, until cancelled.

        New files that cannot be used are told of once, as long as it is for the same reason.
        """
        problem = ""
        while True:
            await asyncio.sleep(interval_s)
            if await asyncio.to_thread(self._stamps) == self._stamp:
                if problem:
                    log.info("the certificate is the one in use again")
                    problem = ""
                continue
            try:
                await asyncio.to_thread(self.load)
            except SetupError as error:
                if str(error) != problem:
                    log.warning("the new certificate is not used: %s", error)
                problem = str(error)
            else:
                log.info("a new certificate is used", extra={"file": str(self._cert_file)})
                problem = ""

    def _stamps(self) -> object:
        return stamp_of([self._cert_file, self._key_file])


def _refuse_passphrase() -> str:
    """Stand in for OpenSSL's question on a terminal that is not there."""
    raise ValueError("the key is encrypted, and a service has nobody to ask for its passphrase")
