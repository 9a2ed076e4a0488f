"""Settings of the relay: the part `relay:` of the launcher's settings file."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from shipway_common.settings import Settings
from shipway_launcher.relay.address import parse_master_url


class MasterTlsSettings(Settings):
    """How the relay makes sure that it talks to the right master, where the URL is https."""

    certificate_file: Path | None = Field(
        None, description="PEM file to trust instead of the system's certificate authorities."
    )
    certificate_name: str | None = Field(
        None, description="Name to expect in the certificate instead of the URL's host."
    )


class SpoolSettings(Settings):
    """How much the relay keeps on disk while the master is away."""

    allocation_mib: Annotated[int, Field(ge=1)] = Field(
        64,
        description=(
            "Log lines kept for one allocation, in MiB; beyond it the oldest are dropped and a"
            " line in the task's log says how many."
        ),
    )
    total_mib: Annotated[int, Field(ge=1)] = Field(
        4096, description="Log lines kept for all allocations together, in MiB."
    )
    keep_h: Annotated[float, Field(gt=0)] = Field(
        168.0,
        description=(
            "Hours after its last message for which an allocation is remembered; what could not be"
            " delivered by then is dropped."
        ),
    )


class RelaySettings(Settings):
    """The relay: jobs post logs and signals here, and reach the rest of the master through it."""

    enabled: bool = Field(True, description="Run the relay and tell jobs that it is the master.")
    host: str = Field(
        "127.0.0.1",
        description=(
            "Address to listen on. The compute nodes must reach it: give the login node's address"
            " in the cluster's network, or 0.0.0.0."
        ),
    )
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8183, description="Port to listen on; 0 takes any free one."
    )
    advertised_url: str | None = Field(
        None,
        description=(
            "URL by which jobs reach the relay, such as http://login1:8183; by default made of host"
            " (for 0.0.0.0 the machine's name) and port."
        ),
    )
    master: str | None = Field(
        None,
        description=(
            "URL of the master, such as https://master:8443; by default the DET_MASTER of the"
            " newest manifest."
        ),
    )
    tls: MasterTlsSettings = Field(
        default_factory=lambda: MasterTlsSettings.model_validate({}),
        description="TLS to the master.",
    )
    spool: SpoolSettings = Field(
        default_factory=lambda: SpoolSettings.model_validate({}),
        description="What is kept on disk while the master is away.",
    )
    master_wait_s: Annotated[float, Field(ge=0)] = Field(
        50.0,
        description=(
            "Seconds for which a passed-through call waits for a master that refuses connections,"
            " before its own connection is closed."
        ),
    )

    @field_validator("master", "advertised_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else parse_master_url(value).url

    @property
    def is_loopback(self) -> bool:
        """Whether only jobs on this very machine can reach the relay."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
