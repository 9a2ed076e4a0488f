"""Where task logs are posted to, and by which ways the master can be reached there."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from shipway_agent.config import AgentSettings
from shipway_agent.errors import MasterUnreachable
from shipway_agent.master.endpoint import make_endpoint
from shipway_agent.taskapi import NOT_VERIFIED, TaskApi, find_certificates, load_trust


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcTarget:
    """What gRPC's own TLS needs to know: it takes no `ssl.SSLContext`."""

    address: str
    """`host:port`."""
    roots: bytes | None = None
    """PEM certificates of whom to believe that it is the master; None: no TLS."""
    server_name: str | None = None
    """What the master's certificate must say instead of the host."""
    client_certificate: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPlace:
    """The master's API, by REST and, where it can be had, by gRPC."""

    url: str
    trust: ssl.SSLContext | None
    server_name: str | None
    proxy: URL | None = None
    grpc: GrpcTarget | None
    no_grpc_because: str = ""

    def open_rest(self, token: str) -> TaskApi:
        """Return a client for one task; to be entered."""
        return TaskApi(
            self.url,
            token,
            trust=self.trust,
            certificate_name=self.server_name,
            proxy=self.proxy,
        )


def agent_log_place(settings: AgentSettings, environ: Mapping[str, str]) -> LogPlace:
    """Say where `shipway-agent run` posts task logs. Blocking: it reads certificates.

    Args:
        settings: The agent's; its connection to the master is like the websocket's.
        environ: The agent's own, with its proxies.

    Raises:
        MasterUnreachable: A certificate file cannot be used; names it.
    """
    endpoint = make_endpoint(settings, environ)
    tls = settings.security.tls
    url = endpoint.url.with_scheme("https" if endpoint.tls else "http").origin()
    target: GrpcTarget | None = None
    roots = _read_roots(tls.master_cert) if tls.enabled else None
    problem = ""
    if endpoint.proxy is not None:
        problem = "there is a proxy on the way"
    elif tls.enabled and tls.skip_verify:
        problem = "gRPC cannot leave the master's certificate unverified"
    elif tls.enabled and roots is None:
        problem = "the system's certificates are not in one file"
    else:
        target = GrpcTarget(
            address=_address(url),
            roots=roots,
            server_name=endpoint.server_name,
            client_certificate=_read(tls.client_cert) if tls.enabled else None,
            client_key=_read(tls.client_key) if tls.enabled else None,
        )
    return LogPlace(
        url=str(url),
        trust=endpoint.tls,
        server_name=endpoint.server_name,
        proxy=endpoint.proxy,
        grpc=target,
        no_grpc_because=problem,
    )


def job_log_place(url: str, environment: Mapping[str, str], tree: Path | None) -> LogPlace:
    """Say where `shipway-agent job` posts the log of its task. Blocking: it reads certificates.

    Args:
        url: Of the master, or of the relay in its place, which has no gRPC.
        environment: The task's variables.
        tree: Where the container's files lie on this host, if they do.

    Raises:
        OSError: A certificate file that the variables name cannot be read.
    """
    is_tls = url.startswith("https://")
    name = environment.get("DET_MASTER_CERT_NAME") or None if is_tls else None
    file = find_certificates(environment, tree) if is_tls else None
    target, problem = None, ""
    roots = _read_roots(file) if is_tls and file != NOT_VERIFIED else None
    if is_tls and roots is None:
        problem = "the certificates to verify the master by are not in one file"
    else:
        target = GrpcTarget(address=_address(URL(url)), roots=roots, server_name=name)
    return LogPlace(
        url=url,
        trust=load_trust(environment, tree) if is_tls else None,
        server_name=name,
        grpc=target,
        no_grpc_because=problem,
    )


def _address(url: URL) -> str:
    host = url.host or ""
    return f"[{host}]:{url.port}" if ":" in host else f"{host}:{url.port}"


def _read_roots(own: Path | None) -> bytes | None:
    if own is not None:
        return _read(own)
    system = ssl.get_default_verify_paths().cafile
    return _read(Path(system)) if system else None


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise MasterUnreachable(f"{path} cannot be read: {error}") from error
