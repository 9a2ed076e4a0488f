"""Look whether the master can have its port, and who reaches it there; all of it blocks."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from shipway_common.findings import Finding, bad, good, warn
from shipway_master.config import MasterConfig


def check_port(config: MasterConfig) -> Iterator[Finding]:
    """Try the port."""
    host, port = config.host, config.port
    if not _is_loopback(host) and config.security.tls.cert is None:
        yield warn(
            "host",
            f"{host} is reached from outside, and passwords and tokens go unencrypted; set"
            " security.tls.cert and key, or let only a proxy with TLS reach it",
        )
    where = f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            yield good("port", f"{where} is free")
    except OSError as error:
        if error.errno == errno.EADDRINUSE and _runs(config.data):
            yield good("port", f"{where} is in use, and a master runs on {config.data}")
        elif error.errno == errno.EADDRINUSE:
            yield bad("port", f"{where} is in use by another program")
        else:
            yield bad("host", f"{where} cannot be listened on: {error.strerror or error}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _runs(data: Path) -> bool:
    """Whether a master holds the lock of its data folder."""
    try:
        descriptor = os.open(data / "lock", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
