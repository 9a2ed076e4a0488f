"""What a task finds in its environment: the manifest's variables, mended where others cut them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

_TO_MASTER_BY_TLS = ("DET_MASTER_CERT_FILE", "DET_MASTER_CERT_NAME")


def restore_cut_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Give back what the master cut off at the second `=` of a user's variable.

    The whole text stands in the task's own configuration, for trials and notebooks. A value is
    replaced only by one that begins with it and goes on with `=`.
    """
    restored = dict(environment)
    kind = environment.get("DET_SLOT_TYPE", "cpu")
    for source in ("DET_EXPERIMENT_CONFIG", "NOTEBOOK_CONFIG"):
        for text in _configured(environment.get(source), kind):
            name, equals, value = text.partition("=")
            cut = restored.get(name)
            if equals and cut is not None and value.startswith(f"{cut}="):
                restored[name] = value
    return restored


def _configured(config_text: str | None, kind: str) -> list[str]:
    """Return the `NAME=value` texts that a task's configuration holds for this kind of slot."""
    if not config_text:
        return []
    try:
        config: Any = json.loads(config_text)
        variables: Any = config["environment"]["environment_variables"]
        is_by_kind = isinstance(variables, dict)
        chosen: Any = cast("dict[str, Any]", variables)[kind] if is_by_kind else variables
    except (ValueError, KeyError, TypeError):  # a user's variable of this name; nothing to mend
        return []
    if not isinstance(chosen, list):
        return []
    items = cast("list[object]", chosen)
    return [text for text in items if isinstance(text, str)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayTrust:
    """How a task makes sure that it talks to the relay."""

    file: str | None
    """In its container; None: by the authorities that its image trusts."""
    certificate_name: str | None
    """To expect in the certificate; None: the host of the relay's URL."""


def point_to_relay(
    environment: Mapping[str, str], relay_url: str, trust: RelayTrust | None = None
) -> dict[str, str]:
    """Make the task take the relay for the master."""
    scheme, _, authority = relay_url.partition("://")
    host, _, port = authority.rpartition(":")
    pointed = {name: value for name, value in environment.items() if name not in _TO_MASTER_BY_TLS}
    if trust is not None and trust.file is not None:
        pointed["DET_MASTER_CERT_FILE"] = trust.file
    if trust is not None and trust.certificate_name is not None:
        pointed["DET_MASTER_CERT_NAME"] = trust.certificate_name
    return pointed | {
        "DET_MASTER": relay_url,
        "DET_MASTER_HOST": host.strip("[]"),
        "DET_MASTER_IP": host.strip("[]"),
        "DET_MASTER_PORT": port,
        "DET_USE_TLS": "true" if scheme == "https" else "false",
    }
