"""Bytes from one connection to another, at the pace of the slower one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Pump(asyncio.Protocol):
    """One end of a pair: what arrives here is written to the other end's transport.

    When the other end cannot write as fast, reading pauses here. The end of one direction is
    passed on and leaves the other one open; a lost connection closes its counterpart.
    """

    def __init__(self, *, on_lost: Callable[[Pump], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._other: Pump | None = None
        self._has_ended = False

    def join(self, other: Pump) -> None:
        """Make *other* the other end. Both must be connected before bytes arrive."""
        self._other = other
        other._other = self

    def write(self, data: bytes | bytearray) -> None:
        """Send *data* out at this end."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """Close this end when what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close this end now."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass *data* on."""
        if self._other is not None:
            self._other.write(data)

    def eof_received(self) -> bool:
        """Pass the end of this direction on; close when the other one has ended too."""
        self._has_ended = True
        if self._other is None or self._other._has_ended or self._other._transport is None:
            return False
        if not self._other._transport.can_write_eof():
            return False  # TLS has no half-closed connections
        self._other._transport.write_eof()
        return self._transport is not None and self._transport.can_write_eof()  # TLS cannot

    def pause_writing(self) -> None:
        """Stop reading at the other end: this one has enough to write."""
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading at the other end."""
        if self._other is not None and self._other._transport is not None:
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end."""
        self._transport = None
        if self._other is not None:
            self._other.close()
        self._on_lost(self)
