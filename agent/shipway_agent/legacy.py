"""Settings of Determined's own agent, former releases included, that mean nothing here.

They are read and named in a warning, so that a file that worked goes on working.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import cast

_NO_FLUENT = "logs do not pass through Fluent Bit any more"

retired: dict[str, str] = {
    "config_file": "name the file with --config or DET_CONFIG_FILE",
    "label": "labels of agents are gone; use resource_pool",
    "fluent.image": _NO_FLUENT,
    "fluent.port": _NO_FLUENT,
    "fluent.container_name": _NO_FLUENT,
    "log.color": "log lines have no colour",
    "singularity_options": "Apptainer takes no such options",
    "podman_options": "Podman takes no such options",
}
"""By dotted key: why it has no effect."""

renamed_values: dict[str, dict[str, str]] = {"container_runtime": {"singularity": "apptainer"}}
"""By key: values that are called otherwise now."""


def without_retired(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the settings without what has no effect, and with values called as they are now."""
    result: dict[str, object] = {}
    for name, value in values.items():
        key = prefix + name
        if key in retired:
            continue
        if isinstance(value, Mapping):
            kept = without_retired(cast("Mapping[str, object]", value), f"{key}.")
            if kept or not value:
                result[name] = kept
        else:
            result[name] = _present_name(key, value)
    return result


def find_retired(values: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """List what of the (nested) settings has no effect or an old name: dotted key and why."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        key = prefix + name
        if value is None:
            continue
        if key in retired:
            found.append((key, f"has no effect: {retired[key]}"))
        elif isinstance(value, Mapping):
            found += find_retired(cast("Mapping[str, object]", value), f"{key}.")
        elif (present := _present_name(key, value)) != value:
            found.append((key, f"{value} is called {present} now"))
    return found


def find_misspelled(environ: Mapping[str, str], known: Collection[str]) -> list[tuple[str, str]]:
    """List the variables that are nearly those of settings: their names, and what was meant."""
    found: list[tuple[str, str]] = []
    for name in sorted(environ):
        if name.startswith("DET_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            found += [(name, near[0])] if near else []
    return found


def _present_name(key: str, value: object) -> object:
    names = renamed_values.get(key)
    return names.get(value, value) if names and isinstance(value, str) else value
