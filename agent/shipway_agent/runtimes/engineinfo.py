"""What an engine has to offer, as it tells itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shipway_agent.runtimes.cdi import FOLDERS, has_cdi
from shipway_agent.runtimes.engine import Engine

_MISSING = "N/A"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Facts that decide in which form an engine is asked for something."""

    has_init: bool
    """It has a small init that it can put before the program, to reap and to pass signals on."""
    nvidia_by: Literal["request", "cdi"]
    """How it gives NVIDIA's GPUs: by its own device requests, or by CDI names."""
    cdi_folders: tuple[Path, ...]
    is_rootless: bool

    def without_init(self) -> EngineInfo:
        """Return the same of an engine whose init turned out not to be there."""
        return replace(self, has_init=False)


async def fetch_engine_info(engine: Engine) -> EngineInfo:
    """Ask the engine what it has now: an administrator may have changed it since."""
    told: dict[str, Any] = await engine.call("GET", "info")
    is_local = engine.address.startswith("unix://")
    return await asyncio.to_thread(
        read_engine_info, told, is_podman=engine.is_podman, is_local=is_local
    )


def read_engine_info(told: Mapping[str, Any], *, is_podman: bool, is_local: bool) -> EngineInfo:
    """Read an engine's `/info`; blocking, for it looks at CDI files.

    Args:
        is_podman: Podman always uses CDI, and does not tell of its init.
        is_local: The engine is on this host, so its CDI files are ours.
    """
    folders = FOLDERS if is_podman else tuple(Path(path) for path in told.get("CDISpecDirs") or ())
    runtimes: Mapping[str, Any] = told.get("Runtimes") or {}
    by_cdi = is_podman or ("nvidia" not in runtimes and is_local and has_cdi(folders))
    commit: Mapping[str, Any] = told.get("InitCommit") or {}
    return EngineInfo(
        has_init=is_podman or (bool(told.get("InitBinary")) and commit.get("ID") != _MISSING),
        nvidia_by="cdi" if by_cdi else "request",
        cdi_folders=folders,
        is_rootless="name=rootless" in (told.get("SecurityOptions") or ())
        or bool(told.get("Rootless")),
    )
