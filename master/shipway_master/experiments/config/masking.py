"""Secrets in configurations: what is shown in their place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from shipway_master.tasks.model import MASK
from shipway_master.yamltext import BadYaml, parse_yaml

SECRET_KEYS: Final = frozenset(
    (
        *("password", "auth", "identitytoken", "registrytoken"),
        *("access_key", "secret_key", "connection_string", "credential", "token"),
    )
)
"""Last keys of the paths below."""

_SECTIONS: Final = (
    ("environment", "registry_auth"),
    ("checkpoint_storage",),
    ("integrations", "pachyderm", "dataset"),
)


def mask_secrets(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration with its passwords, keys and `data.secrets` hidden."""
    masked = dict(plain)
    for path in _SECTIONS:
        masked = _mask_at(masked, path, only=SECRET_KEYS)
    return _mask_at(masked, ("data", "secrets"), only=None)


def mask_text(text: str) -> str:
    """Hide the secrets in a configuration as its user wrote it.

    A text without any stays as it is; one that no longer can be read is not shown at all.
    """
    if not any(key in text for key in (*SECRET_KEYS, "secrets", "\\")):
        return (
            text  # which is so of most, and lists show many; behind a backslash could be anything
        )
    try:
        plain: object = parse_yaml(text)
    except BadYaml:
        return MASK
    if not isinstance(plain, Mapping):
        return text
    given = cast("Mapping[str, Any]", plain)
    masked = mask_secrets(given)
    return text if masked == given else json.dumps(masked)


def _mask_at(
    plain: Mapping[str, Any], path: tuple[str, ...], *, only: frozenset[str] | None
) -> dict[str, Any]:
    copy = dict(plain)
    if not path:
        return {
            key: MASK if value not in (None, "") and (only is None or key in only) else value
            for key, value in copy.items()
        }
    section = copy.get(path[0])
    if isinstance(section, Mapping):
        copy[path[0]] = _mask_at(cast("Mapping[str, Any]", section), path[1:], only=only)
    elif only is None and len(path) == 1 and section is not None:
        copy[path[0]] = MASK
    return copy
