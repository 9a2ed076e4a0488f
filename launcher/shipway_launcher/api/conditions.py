"""Requests that depend on whether a log has changed (RFC 9110, section 13). Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from enum import Enum

from shipway_launcher.logs import Log

_STEADY_S = 2.0
"""A log that was written to so short a time ago may change again within the same second."""


class Verdict(Enum):
    """What the conditions of a request come to."""

    SEND = "send"
    SEND_ALL = "send all"
    """The part that was asked for is one of an older state."""
    UNCHANGED = "unchanged"
    CHANGED = "changed"


def etag_of(log: Log) -> str:
    """Return a tag that another state of the log does not have."""
    return f'"{log.size:x}-{int((log.modified_at or 0) * 1e6):x}"'


def last_modified(log: Log) -> str | None:
    """Return the time of the last change in the form of HTTP."""
    return None if log.modified_at is None else formatdate(log.modified_at, usegmt=True)


def judge(headers: Mapping[str, str], log: Log, *, now: float | None = None) -> Verdict:
    """Compare the conditions with the log; a condition that cannot be read is none."""
    now = time.time() if now is None else now
    if _fails(headers, log):
        return Verdict.CHANGED
    if _is_known(headers, log, now):
        return Verdict.UNCHANGED
    if (state := headers.get("If-Range")) is not None and not _is_state(state, log, now):
        return Verdict.SEND_ALL
    return Verdict.SEND


def _fails(headers: Mapping[str, str], log: Log) -> bool:
    tags = headers.get("If-Match")
    if tags is not None:
        return not _has_tag(tags, log)
    since = _seconds(headers.get("If-Unmodified-Since"))
    return since is not None and _changed_since(log, since)


def _is_known(headers: Mapping[str, str], log: Log, now: float) -> bool:
    tags = headers.get("If-None-Match")
    if tags is not None:
        return _has_tag(tags.replace("W/", ""), log)
    since = _seconds(headers.get("If-Modified-Since"))
    return since is not None and not _changed_since(log, since) and _is_steady(log, now)


def _is_state(state: str, log: Log, now: float) -> bool:
    if state.startswith(('"', "W/")):
        return state == etag_of(log)
    since = _seconds(state)
    return since is not None and since == int(log.modified_at or 0) and _is_steady(log, now)


def _has_tag(tags: str, log: Log) -> bool:
    return any(tag.strip() in ("*", etag_of(log)) for tag in tags.split(","))


def _changed_since(log: Log, since: float) -> bool:
    return log.modified_at is not None and int(log.modified_at) > since


def _is_steady(log: Log, now: float) -> bool:
    return log.modified_at is None or now - log.modified_at >= _STEADY_S


def _seconds(date: str | None) -> float | None:
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
