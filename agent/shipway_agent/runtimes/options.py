"""What a runtime must know about the agent it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

RuntimeName = Literal["auto", "docker", "podman", "apptainer", "enroot", "sandbox"]
SandboxMode = Literal["auto", "bubblewrap", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """Settings of all runtimes; each takes what concerns it."""

    state_dir: Path
    """Folder of our own on a local disk, for what runtimes without a service must remember."""
    environ: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """The agent's own environment: finds programs, sockets and configuration; not for tasks."""
    tethered: bool = False
    """This process is the task's own, as in a Slurm job, not a service of many tasks.

    Containers end when it does, however that happens; and where they run as our user anyway
    (Apptainer, sandbox), they have its home.
    """
    output_limit_bytes: int | None = None
    """How far a task whose output we keep may write ahead of what was released; then it waits.

    For whoever gives back what was delivered (`KeepsOutput`); None: as far as the disk goes.
    """
    in_units: bool = False
    """The agent is a service of systemd, which is asked to hold each task as a unit of its own."""
    output_patience_s: float = 60.0
    """How long it waits while nothing is released, before what it writes is dropped, with a note."""
    docker_host: str | None = None
    """URL of the engine; None: DOCKER_HOST of *environ*, else unix:///var/run/docker.sock."""
    podman_socket: str | None = None
    """URL of Podman's API; None: CONTAINER_HOST of *environ*, else the usual places."""
    image_root: Path | None = None
    """Where images of Apptainer and Enroot lie as <root>/<image reference>."""
    image_limit_bytes: int | None = None
    """How much the images may take that are fetched for Apptainer or Enroot; None: half the disk."""
    sandbox_mode: SandboxMode = "auto"
    sandbox_expose: tuple[Path, ...] = ()
    """Host paths that the sandbox shows read-only even where it hides their parent."""
    sandbox_hide: tuple[Path, ...] = ()
    """Host folders that the sandbox shows empty, such as those with credentials."""
