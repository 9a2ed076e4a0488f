"""Settings of the relay: the part `relay:` of the launcher's settings file."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from shipway_common.settings import Settings
from shipway_launcher.relay.address import parse_master_url


class MasterTlsSettings(Settings):
    """How the relay makes sure that it talks to the right master, where the URL is https."""

    certificate_file: Path | None = Field(
        None,
        description=(
            "PEM file to trust instead of the system's certificate authorities. Read again when it"
            " changes."
        ),
    )
    certificate_name: str | None = Field(
        None, description="Name to expect in the certificate instead of the URL's host."
    )


class ListenTlsSettings(Settings):
    """TLS of the relay's own port."""

    certificate_file: Path | None = Field(
        None,
        description=(
            "PEM file with the relay's certificate and those that lead to its authority; with it"
            " the relay speaks TLS only. Read again when it changes."
        ),
    )
    key_file: Path | None = Field(
        None, description="PEM file with the certificate's key, without a passphrase."
    )
    trust_file: Path | None = Field(
        None,
        description=(
            "PEM file that jobs are given as DET_MASTER_CERT_FILE, to verify the relay by: that of"
            " the authority, or the certificate itself where it is self-signed. By default jobs"
            " verify it by the authorities of their images."
        ),
    )
    certificate_name: str | None = Field(
        None,
        description="Name in the certificate, where it is not the host of the URL jobs are given.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        if self.certificate_file is None and (self.trust_file or self.certificate_name):
            raise ValueError("trust_file and certificate_name are of use with a certificate_file")
        return self


class GatherSettings(Settings):
    """How long the relay waits for the ranks of a job."""

    slow_after_s: Annotated[float, Field(gt=0)] = Field(
        600.0,
        description=(
            "Seconds after the first rank for which an all-gather waits before a line in the task's"
            " log names the ranks that have not come."
        ),
    )
    return_within_s: Annotated[float, Field(gt=0)] = Field(
        60.0,
        description=(
            "Seconds within which a rank that lost its connection during an all-gather must come"
            " back; then the wait of the others ends with an error that names it."
        ),
    )
    give_up_after_s: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description=(
            "Seconds after the first rank after which an all-gather ends with an error that names"
            " the ranks that have not come; by default those that have come wait on."
        ),
    )
    running_within_s: Annotated[float, Field(gt=0)] = Field(
        300.0,
        description=(
            "Seconds after the first container of a job runs; a line in the task's log names the"
            " ranks that do not run by then."
        ),
    )


class SpoolSettings(Settings):
    """How much the relay keeps on disk while the master is away."""

    allocation_mib: Annotated[int, Field(ge=1)] = Field(
        64,
        description=(
            "Log lines kept for one allocation, in MiB, and as much of metrics; beyond it the"
            " oldest are dropped, and a line in the task's log says how many lines."
        ),
    )
    total_mib: Annotated[int, Field(ge=1)] = Field(
        4096, description="Log lines and metrics kept for all allocations together, in MiB."
    )
    keep_h: Annotated[float, Field(gt=0)] = Field(
        168.0,
        description=(
            "Hours after its last message for which an allocation is remembered; what could not be"
            " delivered by then is dropped. One of which all is delivered is remembered for a day"
            " at most."
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
    listen_tls: ListenTlsSettings = Field(
        default_factory=lambda: ListenTlsSettings.model_validate({}),
        description="TLS of the relay's own port.",
    )
    gather: GatherSettings = Field(
        default_factory=lambda: GatherSettings.model_validate({}),
        description="How long to wait for the ranks of a job.",
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
