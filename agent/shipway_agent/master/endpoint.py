"""From the settings to the master's address, with certificates read anew for each dial."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping

from yarl import URL

from shipway_agent.config import AgentSettings, TlsSettings
from shipway_agent.errors import MasterUnreachable
from shipway_agent.master.connection import Endpoint


def make_endpoint(settings: AgentSettings, environ: Mapping[str, str]) -> Endpoint:
    """Say where to dial, and with which certificates. Blocking: it reads files.

    Args:
        environ: HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the agent itself.

    Raises:
        MasterUnreachable: A certificate file or a proxy cannot be used; names it.
    """
    tls = settings.security.tls
    url = URL.build(
        scheme="wss" if tls.enabled else "ws",
        host=settings.master_host.strip("[]"),
        port=settings.port,
        path="/agents",
    )
    return Endpoint(
        url=url,
        tls=make_tls_context(tls) if tls.enabled else None,
        server_name=tls.master_cert_name or None if tls.enabled else None,
        proxy=find_proxy(url, environ),
    )


def make_tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Build what verifies the master and identifies the agent. Blocking: it reads files."""
    try:
        # A bundle of one's own takes the place of the system's, which are not loaded then.
        context = ssl.create_default_context(cafile=tls.master_cert)
    except (OSError, ssl.SSLError) as error:
        raise MasterUnreachable(
            f"security.tls.master_cert: {tls.master_cert} cannot be used: {error}"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.client_cert is not None:
        try:
            context.load_cert_chain(tls.client_cert, tls.client_key)
        except (OSError, ssl.SSLError) as error:
            raise MasterUnreachable(
                f"security.tls.client_cert: {tls.client_cert} with {tls.client_key} cannot be"
                f" used: {error}"
            ) from error
    return context


def find_proxy(url: URL, environ: Mapping[str, str]) -> URL | None:
    """Find the HTTP proxy that the environment names for *url*; never one for this machine.

    Raises:
        MasterUnreachable: What it names is none.
    """
    kind = "https" if url.scheme == "wss" else "http"
    variable = next(
        (name for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY") if environ.get(name)), ""
    )
    proxy = environ.get(variable)
    host = url.host or ""
    if not proxy or is_local(host):
        return None
    exceptions = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if any(_matches(host, url.port, rule.strip()) for rule in exceptions.split(",")):
        return None
    return _parse_proxy(variable, proxy if "://" in proxy else f"http://{proxy}")


def _parse_proxy(variable: str, text: str) -> URL:
    try:
        proxy = URL(text)
        if proxy.scheme in {"http", "https"} and proxy.host:
            return proxy
    except ValueError:
        pass  # its text may repeat a password, and so may a traceback
    raise MasterUnreachable(f"{variable} is not the URL of an HTTP proxy")


def is_local(host: str) -> bool:
    """Tell whether *host* is this machine by name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _matches(host: str, port: int | None, rule: str) -> bool:
    """Tell whether a rule of NO_PROXY means *host*: a name, a domain, an address or a network."""
    if not rule:
        return False
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass  # at least one of them is a name
    name, colon, rule_port = rule.rpartition(":")
    if colon and rule_port.isdigit():
        return int(rule_port) == port and _matches(host, port, name)
    domain = rule.lower().lstrip(".")
    return host.lower() == domain or host.lower().endswith(f".{domain}")
