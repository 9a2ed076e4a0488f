"""Where the proxy leads when a task says by itself where it is.

Whoever may start a task may tell any address, and through the proxy he would speak from the master's
own place in the network: to what listens on its loopback only, to a cloud's metadata service.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PRIVATE: Final[Sequence[Network]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
"""Addresses within a site; of loopback and link-local ones it has none."""

_LOOKUP_LIMIT_S = 5


class NotAllowed(Exception):
    """An address lies in none of the networks, or a name has none that does."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"its node's address {host[:200]!r} is in none of the networks of the master's setting "
            "security.proxy_networks"
        )


class ProxyNetworks:
    """The networks of `security.proxy_networks`."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    def require_allowed(self, host: str) -> None:
        """Check *host* if it is an address; names are looked up when they are used.

        Raises:
            NotAllowed: It lies in none of the networks.
        """
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return
        if not self._holds(host):
            raise NotAllowed(host)

    async def resolve(self, host: str) -> str:
        """Find an allowed address of *host*, for a connection to that very address.

        Raises:
            NotAllowed: It has none.
            OSError: The name cannot be looked up.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_LOOKUP_LIMIT_S):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise OSError(f"{host[:200]!r} is no name of a host") from error
        for *_, address in found:
            if self._holds(str(address[0])):
                return str(address[0])
        raise NotAllowed(host)

    def _holds(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        inner = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((inner or address) in network for network in self._networks)
