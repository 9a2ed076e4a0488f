"""What of a manifest may be shown again."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|API_KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE)


def redact_manifest(data: Mapping[str, Any]) -> bytes:
    """Return a manifest's JSON text without secrets and without the archives, which hold keys.

    Only what `parse_manifest` accepted can be given.
    """
    shown: Any = copy.deepcopy(dict(data))
    parameters = shown["payloads"][0]["launchParameters"]
    environment: dict[str, str] = parameters.get("environment") or {}
    for name in environment:
        if _SECRET.search(name) and environment[name]:
            environment[name] = "***"
    custom: dict[str, list[str]] = parameters.get("custom") or {}
    if custom.get("Archives"):
        custom["Archives"] = ["***" for _ in custom["Archives"]]
    return json.dumps(shown).encode()
