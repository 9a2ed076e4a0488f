"""Enroot: known by name, so that asking for it gets a clear answer."""

from __future__ import annotations

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.spec import Runtime


async def open_runtime(options: RuntimeOptions) -> Runtime:
    """Refuse: this release cannot run containers by Enroot."""
    raise RuntimeUnavailable(
        "this release cannot run containers by enroot;"
        " set container_runtime to docker, podman, apptainer or sandbox"
    )
