"""Where a container is reached, read from what its runtime says about it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from shipway_master.agents.fields import BadMessage, get, read_mapping, read_sequence, read_text
from shipway_master.allocations.rendezvous import Address


def read_addresses(info: Mapping[str, Any], *, proxy_address: str) -> Iterator[Address]:
    """Yield the addresses of a container from its inspect object.

    In host mode each exposed port is one address. Else each published port is one per network; of
    the wildcard bindings only those of the proxy address's own kind (IPv4 or not) count.

    Raises:
        BadMessage: A part has the wrong type, or a host port is no number.
    """
    host_config = read_mapping(get(info, "HostConfig") or {}, "HostConfig")
    config = read_mapping(get(info, "Config") or {}, "Config")
    if read_text(get(host_config, "NetworkMode"), "NetworkMode") == "host":
        for name in read_mapping(get(config, "ExposedPorts") or {}, "ExposedPorts"):
            port = _read_port(name.partition("/")[0])
            yield Address(
                container_ip=proxy_address,
                container_port=port,
                host_ip=proxy_address,
                host_port=port,
            )
        return
    settings = read_mapping(get(info, "NetworkSettings") or {}, "NetworkSettings")
    networks = read_mapping(get(settings, "Networks") or {}, "Networks")
    for name, bindings in read_mapping(get(settings, "Ports") or {}, "Ports").items():
        for entry in read_sequence(bindings, "Ports"):
            binding = read_mapping(entry, "binding")
            host_ip = _choose_host(read_text(get(binding, "HostIp"), "HostIp"), proxy_address)
            if host_ip is None:
                continue
            host_port = _read_port(read_text(get(binding, "HostPort"), "HostPort"))
            for network in networks.values():
                fields = read_mapping(network, "network")
                yield Address(
                    container_ip=read_text(get(fields, "IPAddress"), "IPAddress"),
                    container_port=_read_port(name.partition("/")[0]),
                    host_ip=host_ip,
                    host_port=host_port,
                )


def _choose_host(bound: str, proxy_address: str) -> str | None:
    is_ipv4 = _is_ipv4(proxy_address)
    if bound in ("", "0.0.0.0", "::"):  # noqa: S104 (read, not bound)
        if (bound == "0.0.0.0" and not is_ipv4) or (bound == "::" and is_ipv4):  # noqa: S104
            return None
        return proxy_address
    return bound


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _read_port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise BadMessage(f"port {text!r} is not a port number")
    return int(text)
