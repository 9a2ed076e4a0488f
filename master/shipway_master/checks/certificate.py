"""Look at the master's own certificate; all of it blocks."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from shipway_common.findings import Finding, bad, good, warn
from shipway_master.config import MasterConfig
from shipway_master.errors import CannotStart
from shipway_master.tls import make_tls_context

_SOON = timedelta(days=21)


def check_certificate(config: MasterConfig) -> Iterator[Finding]:
    """Load the certificate as the master does, and look for how long it is good."""
    tls = config.security.tls
    if tls.cert is None or tls.key is None:
        return
    try:
        make_tls_context(tls)
        end = x509.load_pem_x509_certificate(tls.cert.read_bytes()).not_valid_after_utc
    except (CannotStart, OSError, ValueError) as error:
        yield bad("security.tls", str(error).removeprefix("security.tls: "))
        return
    left = end - datetime.now(UTC)
    if left <= timedelta():
        yield bad("security.tls.cert", f"{tls.cert} has expired on {end:%F}")
    elif left < _SOON:
        yield warn("security.tls.cert", f"{tls.cert} expires on {end:%F}")
    else:
        yield good("security.tls.cert", f"{tls.cert}, good until {end:%F}")
    yield from _check_key(tls.key)


def _check_key(key: Path) -> Iterator[Finding]:
    if stat.S_IMODE(key.stat().st_mode) & 0o007:
        yield bad("security.tls.key", f"everybody may read {key}; chmod o= {key}")
