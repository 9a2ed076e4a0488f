"""The certificate that the master shows."""

from __future__ import annotations

import ssl

from shipway_master.config import Tls
from shipway_master.errors import CannotStart


def make_tls_context(tls: Tls) -> ssl.SSLContext | None:
    """Load certificate and key; None where there is none. Blocks.

    Raises:
        CannotStart: They cannot be read, or do not belong together.
    """
    if tls.cert is None or tls.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key, _refuse_passphrase)
    except OSError as error:
        raise CannotStart(f"security.tls: {tls.cert} with {tls.key}: {error}") from error
    # gRPC offers h2 alone. Browsers and curl offer both, and h2 is gRPC here and nothing else.
    context.set_alpn_protocols(["http/1.1", "h2"])
    return context


def _refuse_passphrase() -> str:
    """Stand in for OpenSSL's question on the terminal, which would wait there for ever."""
    raise OSError("the key has a passphrase, and nobody is there to type it: store it without")
