"""Settings of a resource manager that reaches Slurm through a launcher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

from pydantic import Field, model_validator

from shipway_common.settings import Settings
from shipway_master.durations import DurationS
from shipway_master.tasks.defaults import TaskContainerDefaults

SlotType = Literal["cuda", "rocm", "cpu"]


class LauncherTls(Settings):
    """How the launcher's certificate is checked; the protocol decides whether there is one."""

    enabled: bool = False
    """Accepted for compatibility; `protocol: https` is what turns TLS on."""
    skip_verify: bool = False
    """Trust any certificate."""
    certificate: Path | None = None
    """PEM file with the authorities to trust instead of the system's."""


class LauncherSecurity(Settings):
    """`security` of the launcher."""

    tls: LauncherTls = LauncherTls()


class PartitionOverride(Settings):
    """What is different in one partition; its name matches in any letter case."""

    description: str | None = None
    slot_type: SlotType | None = None
    rendezvous_network_interface: str | None = None
    proxy_network_interface: str | None = None
    task_container_defaults: TaskContainerDefaults = TaskContainerDefaults()


class SlurmManagerConfig(Settings):
    """`resource_manager` of type `slurm`.

    The keys that only the original launcher reads are accepted, so that one text can serve both.
    """

    type: Literal["slurm"]
    cluster_name: str = ""
    """Name of this cluster; must differ between resource managers."""
    name: str = ""
    """Older name of `cluster_name`."""
    metadata: dict[str, str] = Field(default_factory=dict[str, str])
    """Free data shown with the pools."""
    master_host: str | None = None
    """Host by which tasks reach this master; by default the one it listens on."""
    master_port: int | None = Field(default=None, ge=1, le=65535)
    """Port by which tasks reach this master; by default the one it listens on."""
    host: str
    """Host of the launcher."""
    port: int = Field(default=8181, ge=1, le=65535)
    """Port of the launcher."""
    protocol: Literal["http", "https"] = "http"
    security: LauncherSecurity = LauncherSecurity()
    auth_file: Path | None = None
    """File with the launcher's token and nothing else; read again when the launcher refuses it."""
    container_run_type: Literal["singularity", "apptainer", "podman", "enroot", "sandbox"] = (
        "singularity"
    )
    """What runs the containers; `sandbox` runs without an image."""
    slot_type: SlotType | None = None
    """Type of all slots; by default cuda where a partition has GPUs, else cpu."""
    rendezvous_network_interface: str = ""
    proxy_network_interface: str = ""
    tres_supported: bool = True
    """Slurm has `select/cons_tres`."""
    gres_supported: bool = True
    """Slurm knows the GPUs."""
    default_aux_resource_pool: str | None = None
    default_compute_resource_pool: str | None = None
    partition_overrides: dict[str, PartitionOverride] = Field(
        default_factory=dict[str, PartitionOverride]
    )
    user_name: str = ""
    """Unix user of the launcher, and of the jobs of users without an agent user of their own."""
    resources_interval: DurationS = Field(default=30.0, gt=0)
    """How often the launcher is asked for partitions and nodes."""
    queue_interval: DurationS = Field(default=2.0, gt=0)
    """How often the launcher is asked for the jobs, while there are any."""
    lost_after: DurationS = Field(default=120.0, gt=0)
    """How long a launch whose answer never came is looked for before the task fails."""

    job_project_source: str | None = None
    group_name: str | None = None
    sudo_authorized: str | None = None
    singularity_image_root: str | None = None
    apptainer_image_root: str | None = None
    job_storage_root: str | None = None
    path: str | None = None
    ld_library_path: str | None = None
    launcher_jvm_args: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_older_name(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, Any]", values)
        return {**given, "cluster_name": given.get("cluster_name") or given.get("name") or ""}

    @property
    def base_url(self) -> str:
        """Where the launcher answers."""
        return f"{self.protocol}://{self.host}:{self.port}"

    def find_override(self, partition: str) -> PartitionOverride:
        """The overrides of a partition; its name matches in any letter case."""
        for name, override in self.partition_overrides.items():
            if name.lower() == partition.lower():
                return override
        return PartitionOverride()
