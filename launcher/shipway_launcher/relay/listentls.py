"""TLS of the relay's own port, with certificates that may be renewed at any time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from shipway_launcher.relay.settings import ListenTlsSettings

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 30.0


class ListenTls:
    """The certificate that jobs are shown."""

    def __init__(
        self, certificate: Path, key: Path, *, look_every_s: float = _LOOK_EVERY_S
    ) -> None:
        """Read the files; blocking.

        Raises:
            OSError: They cannot be used; says why.
        """
        self._certificate, self._key, self._look_every_s = certificate, key, look_every_s
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        # gRPC offers h2 alone. Who offers both speaks HTTP/1.1 here: h2 is gRPC and nothing else.
        self.context.set_alpn_protocols(["http/1.1", "h2"])
        self._seen = self._load()

    @classmethod
    def of(cls, settings: ListenTlsSettings) -> ListenTls | None:
        """Make what *settings* say; None: plain text. Blocking, raises as the constructor."""
        if settings.certificate_file is None or settings.key_file is None:
            return None
        return cls(settings.certificate_file, settings.key_file)

    async def renew(self) -> None:
        """Read the files again whenever they change, for the connections that still come."""
        has_failed = False
        while True:
            await asyncio.sleep(self._look_every_s)
            try:
                is_new = await asyncio.to_thread(self._renew)
            except OSError as error:
                if not has_failed:
                    log.error("the relay keeps its old certificate: %s", error)
                has_failed = True
            else:
                has_failed = False
                if is_new:
                    log.info("the relay has a new certificate")

    def _renew(self) -> bool:
        if self._state() == self._seen:
            return False
        self._seen = self._load()
        return True

    def _load(self) -> tuple[int, ...]:
        state = self._state()
        try:
            # The two files are replaced one after the other; a pair that does not fit is not taken.
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trial.load_cert_chain(self._certificate, self._key, _refuse_passphrase)
            self.context.load_cert_chain(self._certificate, self._key, _refuse_passphrase)
        except OSError as error:
            raise OSError(
                f"relay.listen_tls: {self._certificate} with {self._key}: {error}"
            ) from error
        return state

    def _state(self) -> tuple[int, ...]:
        states = [path.stat() for path in (self._certificate, self._key)]
        return tuple(
            number
            for state in states
            for number in (state.st_mtime_ns, state.st_ino, state.st_size)
        )


def _refuse_passphrase() -> str:
    """Stand in for OpenSSL's question on the terminal, which would wait there for ever."""
    raise OSError("the key has a passphrase, and nobody is there to type it: store it without")
