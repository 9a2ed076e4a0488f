"""Variables that the agent adds to a container's environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shipway_agent.config import AgentSettings
from shipway_agent.master.messages import Container, Device, MasterOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """What containers are told of the agent and its master."""

    agent_id: str
    master_scheme: str
    master_host: str
    master_port: int
    certificate_name: str = ""
    proxies: Mapping[str, str]
    """By upper-case name of the variable; empty ones left out."""

    @classmethod
    def of(cls, settings: AgentSettings) -> AgentFacts:
        """Take what the settings say."""
        proxies = {
            "HTTP_PROXY": settings.http_proxy,
            "HTTPS_PROXY": settings.https_proxy,
            "FTP_PROXY": settings.ftp_proxy,
            "NO_PROXY": settings.no_proxy,
        }
        return cls(
            agent_id=settings.agent_id,
            master_scheme="https" if settings.security.tls.enabled else "http",
            master_host=settings.container_master_host or settings.master_host,
            master_port=settings.container_master_port or settings.port,
            certificate_name=settings.security.tls.master_cert_name,
            proxies={name: value for name, value in proxies.items() if value},
        )

    @property
    def master_url(self) -> str:
        """The master as containers reach it."""
        host = self.master_host
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"{self.master_scheme}://{host}:{self.master_port}"


def complete_environment(
    ordered: Mapping[str, str], facts: AgentFacts, options: MasterOptions, container: Container
) -> dict[str, str]:
    """Return the environment of a container: what was ordered, and the agent's words over it."""
    environment = dict(ordered)
    present = {name.upper() for name in environment}
    environment.update(
        (name, value) for name, value in facts.proxies.items() if name not in present
    )
    environment.update(
        DET_CLUSTER_ID=options.cluster_id,
        DET_MASTER_ID=options.master_id,
        DET_MASTER=facts.master_url,
        DET_MASTER_HOST=facts.master_host,
        DET_MASTER_ADDR=facts.master_host,
        DET_MASTER_PORT=str(facts.master_port),
        DET_AGENT_ID=facts.agent_id,
        DET_CONTAINER_ID=container.id,
        DET_SLOT_IDS=_slot_ids(container.devices or ()),
    )
    if facts.certificate_name:
        environment["DET_MASTER_CERT_NAME"] = facts.certificate_name
    if not any(device.type == "cuda" for device in container.devices or ()):
        # Where NVIDIA's is the default runtime of Docker, a container sees all GPUs without this.
        environment["NVIDIA_VISIBLE_DEVICES"] = "void"
    return environment


def _slot_ids(devices: Sequence[Device]) -> str:
    return json.dumps([device.id for device in devices], separators=(",", ":"))
