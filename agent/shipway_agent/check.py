"""What `shipway-agent check` looks at: each missing or unsafe setting, by file and key."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shipway_agent.config import AgentSettings
from shipway_agent.containers.records import RecordStore
from shipway_agent.errors import MasterUnreachable, SlotsUnknown
from shipway_agent.master.endpoint import is_local, make_tls_context
from shipway_agent.runtimes.registry import check_runtime
from shipway_agent.slots.detect import (
    SlotOptions,
    describe_problems,
    detect_slots,
    require_usable,
)

Severity = Literal["error", "warning", "ok"]

_CONNECT_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    severity: Severity
    """error: the agent would not run."""
    place: str
    """File and key."""
    text: str


async def check_settings(
    settings: AgentSettings, environ: Mapping[str, str], *, file: Path | None
) -> list[Finding]:
    """Look at everything the agent needs, without registering at the master."""
    place = str(file) if file is not None else "settings"
    return [
        *await asyncio.to_thread(_check_files, settings, file, place),
        *await asyncio.to_thread(_check_tls, settings, place),
        await _check_master(settings, place),
        *await _check_slots(settings, environ, place),
        *await _check_runtimes(settings, environ, place),
    ]


def _check_files(settings: AgentSettings, file: Path | None, place: str) -> list[Finding]:
    findings: list[Finding] = []
    if file is not None:
        if file.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            findings.append(
                Finding(
                    severity="warning",
                    place=place,
                    text="others may write the file, and so decide what runs as this user;"
                    " chmod go-w",
                )
            )
        else:
            findings.append(Finding(severity="ok", place=place, text="can be read"))
    assert settings.state_dir is not None
    try:
        RecordStore(settings.state_dir / "containers").open()
    except OSError as error:
        text = f"{settings.state_dir} cannot be used: {error}"
        findings.append(Finding(severity="error", place=f"{place}: state_dir", text=text))
    else:
        findings.append(_check_state_dir(settings.state_dir, place))
    return findings


def _check_state_dir(folder: Path, place: str) -> Finding:
    mode = folder.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"others may write {folder}; chmod 0700"
        return Finding(severity="warning", place=f"{place}: state_dir", text=text)
    return Finding(severity="ok", place=f"{place}: state_dir", text=f"{folder} can be written")


def _check_tls(settings: AgentSettings, place: str) -> list[Finding]:
    tls, key = settings.security.tls, f"{place}: security.tls"
    if not tls.enabled:
        if settings.master_host and not is_local(settings.master_host):
            text = "tokens and tasks travel unencrypted to a master on another machine"
            return [Finding(severity="warning", place=f"{key}.enabled", text=text)]
        return [Finding(severity="ok", place=f"{key}.enabled", text="off, to this machine")]
    findings: list[Finding] = []
    try:
        make_tls_context(tls)
    except MasterUnreachable as error:
        findings.append(Finding(severity="error", place=key, text=str(error)))
    if tls.skip_verify:
        text = "the master's certificate is not verified: anyone may pose as it"
        findings.append(Finding(severity="warning", place=f"{key}.skip_verify", text=text))
    if tls.client_key is not None and _others_read(tls.client_key):
        text = f"others may read {tls.client_key}; chmod 0600"
        findings.append(Finding(severity="warning", place=f"{key}.client_key", text=text))
    return findings or [Finding(severity="ok", place=key, text="on, and verified")]


def _others_read(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False  # that it cannot be read is said elsewhere


async def _check_master(settings: AgentSettings, place: str) -> Finding:
    key = f"{place}: master_host"
    if not settings.master_host:
        return Finding(severity="error", place=key, text="is not set")
    address = f"{settings.master_host}:{settings.port}"
    try:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            _, writer = await asyncio.open_connection(
                settings.master_host.strip("[]"), settings.port
            )
    except TimeoutError:
        text = f"{address} does not answer in {_CONNECT_LIMIT_S:g} s; the agent would keep trying"
        return Finding(severity="warning", place=key, text=text)
    except OSError as error:
        text = f"{address} cannot be reached: {error}; the agent would keep trying"
        return Finding(severity="warning", place=key, text=text)
    writer.close()
    return Finding(severity="ok", place=key, text=f"{address} answers")


async def _check_slots(
    settings: AgentSettings, environ: Mapping[str, str], place: str
) -> list[Finding]:
    key = f"{place}: slot_type"
    try:
        detection = await detect_slots(SlotOptions.of(settings, environ))
        require_usable(detection)
    except SlotsUnknown as error:
        return [Finding(severity="error", place=key, text=str(error))]
    brands = ", ".join(sorted({slot.brand for slot in detection.usable})) or "no device"
    return [
        *(
            Finding(severity="warning", place=key, text=text)
            for text in (*detection.notes, *describe_problems(detection))
        ),
        Finding(severity="ok", place=key, text=f"{len(detection.usable)} slots: {brands}"),
    ]


async def _check_runtimes(
    settings: AgentSettings, environ: Mapping[str, str], place: str
) -> list[Finding]:
    key = f"{place}: container_runtime"
    found = await check_runtime(settings.container_runtime, settings.runtime_options(environ))
    first = next((one for one in found if one.usable), None)
    findings: list[Finding] = []
    for one in found:
        if one is first:
            text = f"{one.name}: {one.detail}"
            findings.append(Finding(severity="ok", place=key, text=text))
        elif not one.usable:
            severity: Severity = "error" if first is None else "ok"
            text = f"{one.name} is not used: {one.detail}"
            findings.append(Finding(severity=severity, place=key, text=text))
    if os.geteuid() != 0 and first is not None and first.name == "sandbox":
        text = "tasks run as the agent's own user, whatever user they are meant for"
        findings.append(Finding(severity="warning", place=key, text=text))
    return findings
