"""Whether the agent can have its own HTTP port, and who can reach it there. All of it blocks."""

from __future__ import annotations

import errno
import socket
import ssl

from shipway_agent.checks.finding import Finding, error, ok, warning
from shipway_agent.config import AgentSettings
from shipway_agent.master.endpoint import is_local


def check_port(settings: AgentSettings, place: str) -> list[Finding]:
    """Try the local port, if it is wanted."""
    if not settings.api_enabled:
        return []
    findings = [_try_port(settings, place)]
    if settings.tls:
        findings += _try_certificate(settings, place)
    elif not is_local(settings.bind_ip.strip("[]")):
        text = "the port is open to other machines, without TLS; it has no log-in"
        findings.append(warning(f"{place}: bind_ip", text))
    return findings


def _try_port(settings: AgentSettings, place: str) -> Finding:
    host, port = settings.bind_ip.strip("[]"), settings.bind_port
    key, where = f"{place}: bind_port", f"{host}:{port}"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            return ok(key, f"{where} is free")
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            return warning(key, f"{where} is in use, if not by the agent itself")
        return error(key, f"{where} cannot be had: {problem.strerror}")


def _try_certificate(settings: AgentSettings, place: str) -> list[Finding]:
    assert settings.tls_cert is not None  # the settings demand both
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as problem:
        text = f"{settings.tls_cert} with {settings.tls_key} cannot be used: {problem}"
        return [error(f"{place}: tls_cert", text)]
    return [ok(f"{place}: tls_cert", "certificate and key fit together")]
