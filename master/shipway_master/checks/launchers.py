"""Look whether the launchers answer, take the master's token, and are new enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from shipway_common.findings import Finding, bad, good, warn
from shipway_master.config import MasterConfig
from shipway_master.hpc.client import LauncherClient
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.errors import LauncherError, TokenRefused
from shipway_master.hpc.version import explain_version

_LIMIT_S = 15
_NO_DISPATCH = "check"


async def check_launchers(config: MasterConfig) -> AsyncIterator[Finding]:
    """Ask each launcher that the settings name; no job is made."""
    for number, (manager, _) in enumerate(config.list_resource_managers()):
        if isinstance(manager, SlurmManagerConfig):
            key = "resource_manager"
            if number:
                key = f"additional_resource_managers.{number - 1}.resource_manager"
            async for finding in _check_launcher(manager, key):
                yield finding


async def _check_launcher(manager: SlurmManagerConfig, key: str) -> AsyncIterator[Finding]:
    where = manager.base_url
    if manager.auth_file is None:
        yield warn(f"{key}.auth_file", f"the launcher at {where} is asked without a token")
    try:
        async with asyncio.timeout(_LIMIT_S), LauncherClient(manager) as launcher:
            version = await launcher.fetch_version()
            await launcher.find_dispatch(_NO_DISPATCH)
    except TokenRefused as error:
        yield bad(f"{key}.auth_file", f"the launcher does not take the token: {error}")
    except (LauncherError, OSError) as error:
        text = str(error) or "no answer in time"
        yield bad(f"{key}.host", f"the launcher does not answer: {text}")
    else:
        problem = explain_version(version)
        yield (
            bad(f"{key}.host", problem)
            if problem
            else good(f"{key}.host", f"{where} answers, version {version}")
        )
