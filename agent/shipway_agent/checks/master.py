"""Whether the master answers: its name, its port, its certificate, its clock."""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

import aiohttp
from yarl import URL

from shipway_agent.checks.finding import Finding, error, ok, warning
from shipway_agent.config import AgentSettings
from shipway_agent.errors import MasterUnreachable
from shipway_agent.master.connection import Endpoint
from shipway_agent.master.endpoint import is_local, make_endpoint

_LIMIT_S = 5.0
_KEEPS_TRYING = "the agent would keep trying"
_CERTIFICATE_DAYS = 14
_CLOCK_S = 5


async def check_master(
    settings: AgentSettings, environ: Mapping[str, str], place: str
) -> list[Finding]:
    """Look at the way to the master step by step, as far as it leads; nothing is registered."""
    key = f"{place}: master_host"
    if not settings.master_host:
        return [error(key, "is not set")]
    tls_key = f"{place}: security.tls"
    findings = _check_encryption(settings, tls_key)
    endpoint: Endpoint | None = None
    try:
        endpoint = await asyncio.to_thread(make_endpoint, settings, environ)
    except MasterUnreachable as problem:
        findings.append(error(tls_key, str(problem)))
    unreachable = await _check_connection(settings, endpoint.proxy if endpoint else None, place)
    if unreachable is not None:
        return [*findings, unreachable]
    if endpoint is None:
        return findings
    if endpoint.tls is not None:
        findings += await _check_certificate(settings, endpoint, tls_key)
        if any(finding.severity == "error" for finding in findings):
            return findings
    return [*findings, *await _ask(endpoint, key)]


def _check_encryption(settings: AgentSettings, key: str) -> list[Finding]:
    tls = settings.security.tls
    if not tls.enabled:
        if is_local(settings.master_host):
            return [ok(f"{key}.enabled", "off, to this machine")]
        text = "tokens and tasks travel unencrypted to a master on another machine"
        return [warning(f"{key}.enabled", text)]
    if tls.skip_verify:
        text = "the master's certificate is not verified: anyone may pose as it"
        return [warning(f"{key}.skip_verify", text)]
    return []


async def _check_connection(
    settings: AgentSettings, proxy: URL | None, place: str
) -> Finding | None:
    """Look up the name and connect; with a proxy, its name and port."""
    if proxy is not None:
        host, port, key = proxy.host or "", proxy.port or 0, "HTTP_PROXY"
    else:
        host, port, key = settings.master_host.strip("[]"), settings.port, f"{place}: master_host"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LIMIT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return warning(key, f"no answer in {_LIMIT_S:g} s to what address {host} has")
    except OSError as problem:
        return warning(key, f"{host}:{port}: no address of that name: {problem}; {_KEEPS_TRYING}")
    addresses = ", ".join(dict.fromkeys(str(one[4][0]) for one in found))
    named = f"{host}:{port}" if host == addresses else f"{host}:{port} ({addresses})"
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return warning(key, f"{named} does not answer in {_LIMIT_S:g} s; {_KEEPS_TRYING}")
    except OSError as problem:
        return warning(key, f"{named} cannot be reached: {problem}; {_KEEPS_TRYING}")
    writer.close()
    return None


async def _check_certificate(
    settings: AgentSettings, endpoint: Endpoint, key: str
) -> list[Finding]:
    if endpoint.proxy is not None:
        return []  # the request that follows says what is wrong
    host = settings.master_host.strip("[]")
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, writer = await asyncio.open_connection(
                host,
                settings.port,
                ssl=endpoint.tls,
                server_hostname=endpoint.server_name or host,
            )
    except ssl.SSLCertVerificationError as problem:
        text = (
            f"the master's certificate is not trusted: {problem.verify_message}; see master_cert"
            " and master_cert_name"
        )
        return [error(key, text)]
    except TimeoutError:
        return [error(key, f"no TLS handshake in {_LIMIT_S:g} s; does the master speak TLS?")]
    except OSError as problem:
        return [error(key, f"no TLS with the master: {problem}")]
    certificate: Mapping[str, Any] = writer.get_extra_info("peercert") or {}
    writer.close()
    ends = certificate.get("notAfter")
    if ends is None:
        return []
    days = math.floor((ssl.cert_time_to_seconds(ends) - time.time()) / 86400)
    text = f"verified; the certificate is valid until {ends}"
    return [ok(key, text) if days >= _CERTIFICATE_DAYS else warning(key, f"{text}: {days} days")]


async def _ask(endpoint: Endpoint, key: str) -> list[Finding]:
    url = endpoint.url.with_scheme("https" if endpoint.tls else "http").with_path("/info")
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_LIMIT_S)) as session,
            session.get(
                url,
                ssl=endpoint.tls or True,
                server_hostname=endpoint.server_name,
                proxy=endpoint.proxy,
            ) as response,
        ):
            received = time.time()
            date = response.headers.get("Date", "")
            answer: Any = await response.json(content_type=None)
    except TimeoutError:
        return [warning(key, f"{url} does not answer in {_LIMIT_S:g} s; {_KEEPS_TRYING}")]
    except aiohttp.ClientError as problem:
        return [warning(key, f"{url} does not answer as a master: {problem}; {_KEEPS_TRYING}")]
    except ValueError:
        return [warning(key, f"{url} does not answer as a master; is this its address?")]
    version = cast("dict[str, Any]", answer).get("version") if isinstance(answer, dict) else None
    if version is None:
        return [warning(key, f"{url} does not answer as a master; is this its address?")]
    return [
        ok(key, f"{url.origin()} answers, version {version}"),
        *_check_clock(date, received, key),
    ]


def _check_clock(date: str, received: float, key: str) -> list[Finding]:
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return []
    ahead_s = received - theirs  # the header has whole seconds
    if abs(ahead_s) < _CLOCK_S:
        return [ok(key, "its clock and this machine's agree")]
    way = "ahead of" if ahead_s > 0 else "behind"
    text = (
        f"this machine's clock is {abs(ahead_s):.0f} s {way} the master's; logs would be misdated"
    )
    return [warning(key, text)]
