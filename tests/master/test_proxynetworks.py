"""Where the proxy leads when a task says by itself where it is."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from shipway_master.proxynetworks import PRIVATE, NotAllowed, ProxyNetworks
from tests.master.asking import create, read_log
from tests.master.running import MasterUnderTest

PRIVATE_NETWORKS = ProxyNetworks(PRIVATE)
OWN_MACHINE = ProxyNetworks([ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")])


@pytest.mark.parametrize("host", ["10.1.2.3", "172.31.0.1", "192.168.7.7", "100.64.0.9", "fd00::7"])
async def test_private_addresses_are_allowed_unless_others_are_named(host: str) -> None:
    PRIVATE_NETWORKS.require_allowed(host)
    assert await PRIVATE_NETWORKS.resolve(host) == host
    with pytest.raises(NotAllowed):
        OWN_MACHINE.require_allowed(host)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "169.254.169.254", "8.8.8.8", "224.0.0.1"),
        *("::1", "::", "fe80::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2001:db8::1"),
    ],
)
async def test_no_others_are(host: str) -> None:
    with pytest.raises(NotAllowed, match=r"security\.proxy_networks"):
        PRIVATE_NETWORKS.require_allowed(host)
    with pytest.raises(NotAllowed):
        await PRIVATE_NETWORKS.resolve(host)


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "localhost"])
async def test_other_forms_of_an_address_are_looked_at_as_what_they_lead_to(host: str) -> None:
    assert socket.getaddrinfo(host, None)[0][4][0] in ("127.0.0.1", "::1")

    with pytest.raises(NotAllowed):
        await PRIVATE_NETWORKS.resolve(host)
    assert await OWN_MACHINE.resolve(host) in ("127.0.0.1", "::1")


@pytest.mark.parametrize("host", [f"{'no-host' * 12}..name", "no-such-host.invalid", "a\0b", ""])
async def test_what_is_no_name_of_a_host_leads_nowhere(host: str) -> None:
    with pytest.raises((OSError, NotAllowed)):
        await PRIVATE_NETWORKS.resolve(host)


async def test_an_address_that_the_proxy_must_not_lead_to_ends_no_task(
    master: MasterUnderTest,
) -> None:
    config = "entrypoint: [x]\nenvironment: {proxy_ports: [{proxy_port: 8000}]}\n"
    task_id = await create(master, config)
    path = f"/allocations/{task_id}.1/proxy_address"

    answer = await master.call("POST", path, {"proxyAddress": "169.254.169.254"})

    assert answer.status == 200, "the stock harness ends with its task at any error"
    said = [line for line in await read_log(master, task_id) if "proxy_networks" in line]
    assert len(said) == 1
    assert "169.254.169.254" in said[0]
    assert (await master.call("POST", path, {"proxyAddress": "10.0.0.7"})).status == 200


async def test_a_task_that_serves_nothing_is_told_nothing_of_the_proxy(
    master: MasterUnderTest,
) -> None:
    task_id = await create(master, "entrypoint: [x]\n")
    path = f"/allocations/{task_id}.1/proxy_address"

    answer = await master.call("POST", path, {"proxyAddress": "127.0.0.1"})

    assert answer.status == 200
    assert not [line for line in await read_log(master, task_id) if "proxy_networks" in line]
