"""From a runtime's name to the runtime; each module is imported when it is first asked for."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.runtimes.options import RuntimeName, RuntimeOptions
from shipway_agent.runtimes.spec import Runtime

log = logging.getLogger(__name__)

_modules: dict[str, str] = {
    "docker": "shipway_agent.runtimes.docker",
    "podman": "shipway_agent.runtimes.podman",
    "apptainer": "shipway_agent.runtimes.apptainer",
    "enroot": "shipway_agent.runtimes.enroot",
    "sandbox": "shipway_agent.runtimes.sandbox",
}
_auto_order = ("docker", "podman", "apptainer", "enroot", "sandbox")
_auto_openers = {"podman": "open_if_served"}
"""By which other function of its module a runtime is opened that nobody asked for by name."""

runtime_names: tuple[str, ...] = ("auto", *_modules)
"""All that `find_runtime` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeCheck:
    """Whether one runtime could be used here, and why or why not."""

    name: str
    usable: bool
    detail: str


async def find_runtime(name: RuntimeName, options: RuntimeOptions) -> Runtime:
    """Open the runtime *name*, or the best that works here for `auto`.

    `auto` prefers, in this order, an answering Docker engine, Podman where its socket answers,
    Apptainer or Singularity on PATH, Enroot on PATH, and the sandbox.

    Raises:
        RuntimeUnavailable: It does not work here; the text says why and what to do.
    """
    if name != "auto":
        return await _open(name, options)
    refusals: list[str] = []
    for candidate, opener in _list_openers(name):
        try:
            runtime = await _open(candidate, options, opener)
        except RuntimeUnavailable as error:
            log.debug("runtime not usable", extra={"runtime": candidate, "reason": str(error)})
            refusals.append(f"{candidate}: {error}")
        else:
            return runtime
    raise RuntimeUnavailable("no container runtime works here; " + "; ".join(refusals))


async def check_runtime(name: RuntimeName, options: RuntimeOptions) -> list[RuntimeCheck]:
    """Try the runtime *name* (each of them for `auto`) and say what came of it."""
    found: list[RuntimeCheck] = []
    for candidate, opener in _list_openers(name):
        try:
            runtime = await _open(candidate, options, opener)
        except (RuntimeUnavailable, OSError) as error:  # no folder of its own below the agent's
            found.append(RuntimeCheck(name=candidate, usable=False, detail=str(error)))
        else:
            try:
                found.append(RuntimeCheck(name=candidate, usable=True, detail=runtime.description))
            finally:
                await runtime.aclose()
    return found


def _list_openers(name: RuntimeName) -> list[tuple[str, str]]:
    """List what a name stands for, and by which functions it is opened then."""
    if name != "auto":
        return [(name, "open_runtime")]
    return [(one, _auto_openers.get(one, "open_runtime")) for one in _auto_order]


async def _open(name: str, options: RuntimeOptions, opener_name: str = "open_runtime") -> Runtime:
    module_name = _modules.get(name)
    if module_name is None:
        raise RuntimeUnavailable(
            f"container runtime {name!r} is not known; use one of {', '.join(runtime_names)}"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise RuntimeUnavailable(
            f"{name} needs the Python package {error.name}, which is not installed"
        ) from error
    opener = cast("Callable[[RuntimeOptions], Awaitable[Runtime]]", getattr(module, opener_name))
    return await opener(options)
