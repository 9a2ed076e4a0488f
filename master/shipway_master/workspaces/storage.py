"""Where the experiments of a workspace put their checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from shipway_master.errors import InvalidArgument
from shipway_master.experiments.config import parse_checkpoint_storage
from shipway_master.experiments.config.masking import SECRET_KEYS, mask_secrets
from shipway_master.experiments.config.problems import list_problems
from shipway_master.experiments.config.storage import STORAGES, SharedFs
from shipway_master.tasks.model import MASK

_KEY: Final = "checkpoint_storage"


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
        key: known.get(key) if key in SECRET_KEYS and value == MASK else value
        for key, value in given.items()
    }
    storage = {key: value for key, value in storage.items() if value is not None}
    try:
        parse_checkpoint_storage(storage)
    except ValidationError as error:
        model = STORAGES.get(str(storage.get("type")), SharedFs)
        problems = list_problems(error, storage, model)
        raise InvalidArgument(f"{_KEY}: {'; '.join(map(str, problems))}") from error
    return json.dumps(storage)


def mask_storage(stored: str) -> dict[str, Any]:
    """Give out a stored configuration, its secrets replaced."""
    masked: dict[str, Any] = mask_secrets({_KEY: json.loads(stored)})[_KEY]
    return masked
