"""Look for what is missing or unsafe before anybody finds out the hard way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

from shipway_common.findings import Finding, bad, good, warn
from shipway_master.checks.certificate import check_certificate
from shipway_master.checks.database import check_database
from shipway_master.checks.folder import check_data, check_settings_file
from shipway_master.checks.launchers import check_launchers
from shipway_master.checks.port import check_port
from shipway_master.config import MasterConfig
from shipway_master.experiments.config.storage import SharedFs
from shipway_master.retention import FOREVER, RetentionPolicy, parse_schedule

_OF_EACH_NODE = "/tmp"  # noqa: S108 (the default, as Determined has it)


async def check(config: MasterConfig, *, file: Path | None) -> AsyncIterator[Finding]:
    """Look at everything; nothing is changed, and a master that runs is not disturbed.

    Args:
        file: The settings file, if there is one.
    """
    for finding in await asyncio.to_thread(lambda: list(_check_here(config, file))):
        yield finding
    async for finding in check_database(config):
        yield finding
    async for finding in check_launchers(config):
        yield finding


def _check_here(config: MasterConfig, file: Path | None) -> Iterator[Finding]:
    if file is not None:
        yield from check_settings_file(config, file)
    yield from check_data(config.data)
    yield from check_certificate(config)
    yield from check_port(config)
    yield _check_retention(config.retention_policy)
    yield from _check_storage(config)
    yield _check_page()


def _check_retention(policy: RetentionPolicy) -> Finding:
    key = "retention_policy.log_retention_days"
    if policy.log_retention_days == FOREVER:
        return good(key, "logs are kept for ever")
    at = parse_schedule(policy.schedule)(datetime.now(UTC))
    return good(
        key, f"logs are kept for {policy.log_retention_days} days; next round {at:%F %R} UTC"
    )


def _check_storage(config: MasterConfig) -> Iterator[Finding]:
    storage = config.checkpoint_storage
    if isinstance(storage, SharedFs) and storage.host_path == _OF_EACH_NODE:
        yield warn(
            "checkpoint_storage.host_path",
            f"checkpoints of experiments that do not say where go to {_OF_EACH_NODE}, which each"
            " node has for itself; name a folder that all of them share",
        )


def _check_page() -> Finding:
    if (resources.files("shipway_master.page") / "static/index.html").is_file():
        return good("page", "its files are there")
    return bad("page", "its files are missing: install shipway again")
