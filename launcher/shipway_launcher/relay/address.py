"""Where the master is: configured, or learned from the manifests it sends."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shipway_common.files import write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterUrl:
    """A master's address, taken apart."""

    is_tls: bool
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address in its one spelling, without a slash at the end."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """`host:port` as URLs and gRPC write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_master_url(text: str) -> MasterUrl:
    """Read `http(s)://host[:port]`.

    Raises:
        ValueError: *text* is something else; says what is wrong with it.
    """
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"{text!r} must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{text!r} must hold nothing but scheme, host and port")
    is_tls = parts.scheme == "https"
    return MasterUrl(is_tls=is_tls, host=parts.hostname, port=parts.port or (443 if is_tls else 80))


class MasterAddress:
    """The one master that jobs belong to; may be unknown until the first manifest comes."""

    def __init__(self, configured: str | None, memory: Path) -> None:
        """Begin with the *configured* URL, else with what *memory* holds from an earlier run.

        Args:
            configured: If given, it never changes and *memory* is not used.
            memory: File in which a learned address survives a restart.
        """
        self._memory = memory
        self._is_fixed = configured is not None
        self._url = parse_master_url(configured) if configured else _remembered(memory)
        self._known = asyncio.Event()
        if self._url is not None:
            self._known.set()

    @property
    def current(self) -> MasterUrl | None:
        """The address as far as it is known."""
        return self._url

    async def wait(self) -> MasterUrl:
        """Return the address, waiting for the first manifest if there was none yet."""
        while self._url is None:
            await self._known.wait()
        return self._url

    async def learn(self, url: str) -> None:
        """Take over the DET_MASTER of a manifest, unless an address is configured.

        Raises:
            ValueError: *url* is no URL of a master.
        """
        if self._is_fixed:
            return
        learned = parse_master_url(url)
        if learned == self._url:
            return
        if self._url is not None:
            log.warning(
                "the manifests now name another master",
                extra={"before": self._url.url, "now": learned.url},
            )
        state = json.dumps({"version": 1, "master": learned.url}).encode()
        await asyncio.to_thread(write_atomic, self._memory, state)
        self._url = learned
        self._known.set()


def _remembered(memory: Path) -> MasterUrl | None:
    try:
        state = json.loads(memory.read_bytes())
        return parse_master_url(state["master"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        log.warning(
            "the remembered address of the master is unreadable; waiting for the next manifest",
            extra={"file": str(memory), "reason": str(error)},
        )
        return None
