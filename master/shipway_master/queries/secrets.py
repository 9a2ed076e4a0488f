"""What of an experiment's configuration is hidden from readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import yaml

from shipway_master.tasks.model import MASK

_SECRET_KEYS: Final = frozenset(
    {
        "access_key",
        "secret_key",
        "connection_string",
        "credential",
        "password",
        "auth",
        "identitytoken",
        "registrytoken",
        "token",
    }
)
"""Below `checkpoint_storage`, `registry_auth` and `integrations`, wherever these stand."""
_PLACES: Final = frozenset({"checkpoint_storage", "registry_auth", "integrations"})


def mask_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy *config*, credentials of storages, registries and integrations hidden."""
    return cast("dict[str, Any]", _mask(config, is_secret_place=False))


def mask_config_text(text: str) -> str:
    """Hide the same in a configuration as its author wrote it; without any it stays as it is."""
    try:
        config: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""  # nobody can say what is in it
    masked = _mask(config, is_secret_place=False)
    return text if masked == config else yaml.safe_dump(masked, sort_keys=False)


def _mask(value: Any, *, is_secret_place: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            key: MASK
            if is_secret_place and key in _SECRET_KEYS and item
            else _mask(item, is_secret_place=is_secret_place or key in _PLACES)
            for key, item in cast("Mapping[str, Any]", value).items()
        }
    if isinstance(value, list):
        items = cast("Sequence[Any]", value)
        return [_mask(item, is_secret_place=is_secret_place) for item in items]
    return value
