"""What of a manifest may be shown again."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

MASK = "***"

_SECRET = re.compile(
    r"token(?!iz)|passw|passphrase|secret|credential|cookie|session_id|signature"
    r"|(?:api|access|private|account|encryption|shared|master|auth|signing|ssh|storage)[-_.]?key"
    r"|(?:^|[-_.])(?:pat|pwd|auth|jwt|dsn|key)$|connection[-_.]?string",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?<=://)[^/\s@:]*:[^/\s@]*(?=@)")
"""User and password in a URL."""
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|$)", re.DOTALL)
_OPTION = re.compile(r"(--?[A-Za-z0-9_.-]+)(=| +)(\S+)")
_SHORTEST = 6
"""A shorter secret is not looked for in other texts: it would be found in innocent ones."""


def redact_manifest(data: Mapping[str, Any]) -> bytes:
    """Return a manifest's JSON text without secrets and without the archives, which hold keys.

    Masked are the values of variables that are named like secrets, also in the configurations that
    a manifest holds as JSON; logins in URLs; and the same values wherever else they stand.

    Only what `parse_manifest` accepted can be given.
    """
    shown: Any = copy.deepcopy(dict(data))
    parameters = shown["payloads"][0]["launchParameters"]
    environment: dict[str, str] = parameters.get("environment") or {}
    secrets: set[str] = set()
    for name, value in environment.items():
        environment[name] = _mask_named(name, value, secrets)
    arguments: list[str] = parameters.get("arguments") or []
    parameters["arguments"] = list(_mask_options(arguments, secrets))
    custom: dict[str, list[str]] = parameters.get("custom") or {}
    if custom.get("Archives"):
        custom["Archives"] = [MASK for _ in custom["Archives"]]
    return json.dumps(_mask_everywhere(shown, secrets)).encode()


def _mask_named(name: str, value: str, secrets: set[str]) -> str:
    """Mask a value whose name says that it is secret, and note it; else what is secret in it."""
    if value and _SECRET.search(name):
        secrets.add(value)
        return MASK
    if value.startswith(("{", "[")):
        try:
            loaded: object = json.loads(value)
        except (ValueError, RecursionError):
            return value
        masked = _mask_json(loaded, secrets)
        return value if masked == loaded else json.dumps(masked)
    return value


def _mask_json(value: object, secrets: set[str]) -> object:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {
            name: _mask_named(name, member, secrets)
            if isinstance(member, str)
            else _mask_json(member, secrets)
            for name, member in members.items()
        }
    if isinstance(value, list):
        return [_mask_json(item, secrets) for item in cast("list[object]", value)]
    if isinstance(value, str):  # `NAME=value`, as variables are configured
        name, equals, text = value.partition("=")
        if equals and re.fullmatch(r"\w+", name):
            return f"{name}={_mask_named(name, text, secrets)}"
    return value


def _mask_options(arguments: Iterable[str], secrets: set[str]) -> Iterable[str]:
    """Mask what follows an option that is named like a secret: `--token x`, `--password=x`."""
    is_next = False
    for word in arguments:
        if is_next and not word.startswith("-"):
            secrets.add(word)
            yield MASK
            is_next = False
            continue
        name, equals, value = word.partition("=")
        is_secret = bool(re.fullmatch(r"-{0,2}[\w.-]+", name) and _SECRET.search(name))
        if is_secret and equals and value:
            secrets.add(value)
            yield f"{name}={MASK}"
        else:
            yield _OPTION.sub(lambda found: _mask_option(found, secrets), word)
        is_next = is_secret and not equals and name.startswith("-")


def _mask_option(found: re.Match[str], secrets: set[str]) -> str:
    """Mask within one word, which may be a whole command line."""
    name, between, value = found.groups()
    if not _SECRET.search(name) or value.startswith("-"):
        return found.group()
    secrets.add(value.strip("'\""))
    return f"{name}{between}{MASK}"


def _mask_everywhere(value: object, secrets: set[str]) -> object:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return {name: _mask_everywhere(member, secrets) for name, member in members.items()}
    if isinstance(value, list):
        return [_mask_everywhere(item, secrets) for item in cast("list[object]", value)]
    if not isinstance(value, str):
        return value
    for secret in sorted(secrets, key=len, reverse=True):  # one may be a part of another
        if len(secret) >= _SHORTEST:
            value = value.replace(secret, MASK)
    return _PEM.sub(MASK, _LOGIN.sub(f"{MASK}:{MASK}", value))
