"""Our own types as the API's JSON, and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shipway_launcher.acls import AccessList, Acls
from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch, Event
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.errors import WrongRequest
from shipway_launcher.interfaces import UserInterface
from shipway_launcher.joblogs import LogSource

DISPATCHER = "shipway-launcher"


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


def state_of(found: Dispatch | Query) -> DispatchState:
    """Return the state as the API tells it."""
    return DispatchState.COMPLETED if isinstance(found, Query) else found.state


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


def query_manifest(found: Query) -> dict[str, Any]:
    """Return the manifest of a query, as far as it meant anything."""
    return {
        "manifestVersion": "v1",
        "clientMetadata": {"name": found.name},
        "payloads": [
            {
                "name": found.payload,
                "carriers": [found.carrier],
                "launchParameters": {},
            }
        ],
    }


def dispatch_metadata(
    found: Dispatch | Query, interfaces: Sequence[UserInterface]
) -> dict[str, Any]:
    """Return what the launcher adds to a manifest."""
    launched = found.at if isinstance(found, Query) else found.created_at
    metadata: dict[str, Any] = {
        "owner": found.owner,
        "dispatcher": DISPATCHER,
        "carriers": {found.payload: found.carrier},
        "launched": _time(launched),
        "userInterfaces": [interface_info(one) for one in interfaces],
    }
    if state_of(found).is_final:
        ended = found.at if isinstance(found, Query) else found.updated_at
        metadata["terminated"] = _time(ended)
    return metadata


def interface_info(interface: UserInterface) -> dict[str, str]:
    """Return a UserInterface."""
    return {"type": interface.kind, "location": interface.location}


def log_source(source: LogSource) -> dict[str, Any]:
    """Return an EnvironmentLogSource; `king` is what the API calls the kind."""
    return {
        "name": source.name,
        "king": source.kind,
        "lastModified": _time(datetime.fromtimestamp(source.status.modified_at, UTC)),
        "length": source.status.size,
    }


class _Strict(BaseModel):
    """A misspelt member is refused: without `forbidden`, somebody would be let in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    additionalProperties: dict[str, Any] | None = None  # noqa: N815 (wire name)


class _AccessList(_Strict):
    allowed: list[str] | None = Field(None, max_length=1000)
    forbidden: list[str] | None = Field(None, max_length=1000)


class _Acls(_Strict):
    read: _AccessList | None = None
    write: _AccessList | None = None
    admin: _AccessList | None = None


def parse_acls(data: Any) -> Acls:
    """Read ACLS; a list that is missing is empty.

    Raises:
        WrongRequest: Names each member that is wrong.
    """
    try:
        wire = _Acls.model_validate(data)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise WrongRequest("the access lists cannot be used: " + "; ".join(problems)) from error
    return Acls(
        read=_access_list(wire.read), write=_access_list(wire.write), admin=_access_list(wire.admin)
    )


def _access_list(wire: _AccessList | None) -> AccessList:
    if wire is None:
        return AccessList()
    lists = {"allowed": wire.allowed or [], "forbidden": wire.forbidden or []}
    for kind, names in lists.items():
        for name in names:
            if not name.isprintable() or not name.isascii() or not 0 < len(name) <= 64:
                raise WrongRequest(f"{kind}: {name[:80]!r} is no user name, and not *")
    return AccessList(allowed=tuple(lists["allowed"]), forbidden=tuple(lists["forbidden"]))


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
