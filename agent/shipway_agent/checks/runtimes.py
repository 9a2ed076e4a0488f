"""Which container runtime would be used, and why not another."""

from __future__ import annotations

import os
from collections.abc import Mapping

from shipway_agent.checks.finding import Finding, error, ok, warning
from shipway_agent.config import AgentSettings
from shipway_agent.runtimes.registry import check_runtime


async def check_runtimes(
    settings: AgentSettings, environ: Mapping[str, str], place: str
) -> list[Finding]:
    """Try the runtime of the settings; each of them for `auto`."""
    key = f"{place}: container_runtime"
    found = await check_runtime(settings.container_runtime, settings.runtime_options(environ))
    first = next((one for one in found if one.usable), None)
    findings: list[Finding] = []
    for one in found:
        if one is first:
            findings.append(ok(key, f"{one.name}: {one.detail}"))
        elif one.usable:
            findings.append(ok(key, f"{one.name} works too: {one.detail}"))
        else:
            say = error if first is None else ok
            findings.append(say(key, f"{one.name} is not used: {one.detail}"))
    if first is not None and first.name == "sandbox":
        findings += _check_sandbox(settings, key)
    return findings


def _check_sandbox(settings: AgentSettings, key: str) -> list[Finding]:
    findings: list[Finding] = []
    if settings.container_runtime == "auto":
        text = "nothing else works, so tasks run without their image; to rule that out, name one"
        findings.append(warning(key, text))
    if os.geteuid() != 0:
        text = "tasks run as the agent's own user, whatever user they are meant for"
        findings.append(warning(key, text))
    return findings
