"""Our own types as the API's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch, Event
from shipway_launcher.dispatches.state import DispatchState


def dispatch_info(found: Dispatch | Query, *, event_limit: int | None = None) -> dict[str, Any]:
    """Return a DispatchInfo.

    Args:
        found: The dispatch, or an answered query, which is one that has completed.
        event_limit: Most events to show, the newest; None for all.
    """
    if isinstance(found, Query):
        return _info(found, DispatchState.COMPLETED, (), found.at, None)
    events = found.events
    shown = events if event_limit is None else events[max(0, len(events) - event_limit) :]
    return _info(found, found.state, shown, found.updated_at, found.job_id)


def _info(
    found: Dispatch | Query,
    state: DispatchState,
    events: Sequence[Event],
    updated_at: datetime,
    job_id: str | None,
) -> dict[str, Any]:
    return {
        "launchedCapsuleReference": {
            "owner": found.owner,
            "name": found.name,
            "version": "unknown",
        },
        "launchingUser": found.owner,
        "dispatchId": found.id,
        "state": state.value,
        "events": [_event(event) for event in events],
        "lastUpdated": _time(updated_at),
        "payloadStates": {found.payload: state.value},
        "additionalProperties": {} if job_id is None else {"job-id": job_id},
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "level": event.level,
        "timestamp": _time(event.at),
        "reporter": event.reporter,
        "message": event.message,
    }


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
