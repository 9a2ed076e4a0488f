"""Parameters of requests."""

from __future__ import annotations

import re

from aiohttp import web

from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.errors import WrongRequest

_LARGEST = (1 << 31) - 1
_AGE = re.compile(r"max-age\s*=\s*\"?(\d{1,9})\"?")


def flag(request: web.Request, name: str) -> bool:
    """Return a parameter that is true or false, which it is if it is missing.

    Raises:
        WrongRequest: It is neither.
    """
    text = request.query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise WrongRequest(f"{name}: {text[:40]!r} is neither true nor false")
    return text == "true"


def number(request: web.Request, name: str) -> int | None:
    """Return a parameter that counts something, None if it is missing.

    Raises:
        WrongRequest: It is no number from 0 to 2147483647.
    """
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _LARGEST):
        raise WrongRequest(f"{name}: {text[:40]!r} is no number from 0 to {_LARGEST}")
    return int(text)


def states(request: web.Request) -> frozenset[DispatchState]:
    """Return the states that are asked for; none stands for all.

    Raises:
        WrongRequest: One is no state.
    """
    found: set[DispatchState] = set()
    for text in request.query.getall("state", []):
        try:
            found.add(DispatchState(text))
        except ValueError:
            known = ", ".join(DispatchState)
            raise WrongRequest(f"state: {text[:40]!r} is none of {known}") from None
    return frozenset(found)


def wanted_age_s(request: web.Request) -> float | None:
    """Return how old the answer may be, in seconds; None if the caller does not say."""
    for part in ",".join(request.headers.getall("Cache-Control", [])).lower().split(","):
        if part.strip() in ("no-cache", "no-store"):
            return 0.0
        if match := _AGE.fullmatch(part.strip()):
            return float(match.group(1))
    return None
