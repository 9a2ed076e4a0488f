"""What `shipway-agent check` looks at: each missing or unsafe setting, by file and key."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path

from shipway_agent.checks.files import find_doubtful, find_unsafe
from shipway_agent.checks.finding import Finding, error, ok, warning
from shipway_agent.checks.master import check_master
from shipway_agent.checks.node import check_cgroups, check_namespaces, check_state_dir
from shipway_agent.checks.port import check_port
from shipway_agent.checks.runtimes import check_runtimes
from shipway_agent.config import AgentSettings
from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import SlotOptions, detect_slots


async def check_settings(
    settings: AgentSettings, environ: Mapping[str, str], *, file: Path | None
) -> list[Finding]:
    """Look at everything the agent needs, without registering at the master."""
    place = str(file) if file is not None else "settings"
    return [
        *await asyncio.to_thread(_check_files, settings, file),
        *await asyncio.to_thread(check_state_dir, settings, place),
        *await check_master(settings, environ, place),
        *_check_persistence(settings, place),
        *await asyncio.to_thread(_check_hook, settings, environ, place),
        *await _check_slots(settings, environ, place),
        *await check_runtimes(settings, environ, place),
        *await asyncio.to_thread(check_namespaces, settings, place),
        await asyncio.to_thread(check_cgroups, place),
        *await asyncio.to_thread(check_port, settings, place),
    ]


def _check_files(settings: AgentSettings, file: Path | None) -> list[Finding]:
    findings = [
        *(error(problem.place, problem.text) for problem in find_unsafe(settings, file)),
        *(warning(problem.place, problem.text) for problem in find_doubtful(settings, file)),
    ]
    if not findings and file is not None:
        findings.append(ok(str(file), "can be read, and written only by its owner"))
    return findings


def _check_persistence(settings: AgentSettings, place: str) -> list[Finding]:
    tries = settings.agent_reconnect_attempts
    if tries <= 0:
        return []
    text = f"the agent ends after {tries} tries without a master; 0 lets it try for ever"
    return [warning(f"{place}: agent_reconnect_attempts", text)]


def _check_hook(settings: AgentSettings, environ: Mapping[str, str], place: str) -> list[Finding]:
    words = settings.hooks.on_connection_lost
    if not words or shutil.which(words[0], path=environ.get("PATH")):
        return []
    text = f"there is no program {words[0]} that could be run"
    return [error(f"{place}: hooks.on_connection_lost", text)]


async def _check_slots(
    settings: AgentSettings, environ: Mapping[str, str], place: str
) -> list[Finding]:
    key = f"{place}: slot_type"
    try:
        detection = await detect_slots(SlotOptions.of(settings, environ))
    except SlotsUnknown as problem:
        return [error(key, str(problem))]
    brands = ", ".join(sorted({slot.brand for slot in detection.usable})) or "no device"
    return [
        *(warning(key, note) for note in detection.notes),
        ok(key, f"{len(detection.usable)} slots: {brands}"),
    ]
