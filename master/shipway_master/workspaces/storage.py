"""Where the experiments of a workspace put their checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from shipway_master.errors import InvalidArgument
from shipway_master.tasks.model import MASK

_SECRETS: Final = frozenset({"access_key", "secret_key", "connection_string", "credential"})


def dump_storage(given: Mapping[str, Any], *, before: str | None) -> str | None:
    """Check a configuration, and write it as it is stored; an empty one is none.

    Args:
        before: What was stored. A secret that comes back masked, as it was given out, stays.

    Raises:
        InvalidArgument: It is no checkpoint storage.
    """
    if not given:
        return None
    known: Mapping[str, Any] = json.loads(before) if before else {}
    storage = {
        key: known.get(key) if key in _SECRETS and value == MASK else value
        for key, value in given.items()
        if value is not None
    }
    if not isinstance(storage.get("type"), str):
        raise InvalidArgument("checkpoint storage: type is missing")
    return json.dumps(storage)


def mask_storage(stored: str) -> dict[str, Any]:
    """Give out a stored configuration, its secrets replaced."""
    storage: Mapping[str, Any] = json.loads(stored)
    return {
        key: MASK if key in _SECRETS and value is not None else value
        for key, value in storage.items()
    }
