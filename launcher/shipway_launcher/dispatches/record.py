"""What is known of one dispatch, and its form on disk."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NewType

from shipway_launcher.dispatches.state import DispatchState, transition
from shipway_launcher.slurm.rows import SlurmJobId

DispatchId = NewType("DispatchId", str)

_VERSION = 1
_MAX_EVENTS = 200


class Submission(enum.StrEnum):
    """How far the submission of the job has come."""

    PREPARING = "preparing"
    """Files are written; Slurm knows nothing."""
    SUBMITTING = "submitting"
    """sbatch runs, or ran when the launcher ended."""
    DOUBTFUL = "doubtful"
    """There may be a job or not; it is looked for by name."""
    SUBMITTED = "submitted"
    """There is a job, and its id is known."""
    REFUSED = "refused"
    """There is no job, and none will be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a dispatch."""

    level: str
    """TRACE, DEBUG, INFO, WARNING or ERROR; the master shows the last two to the user."""
    at: datetime
    reporter: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One launched manifest."""

    # What it is; set once.
    id: DispatchId
    owner: str
    name: str
    """The manifest's client name; the master knows its own dispatches by it."""
    payload: str
    carrier: str
    job_name: str
    digest: str
    """SHA-256 of the request, to tell a repeated launch from another one of the same id."""
    created_at: datetime
    scope: str = ""
    """Of the token that it was launched with; which master it belongs to, where there are several."""
    warning_s: int | None = None
    """How long before its time limit the job is warned."""

    # What became of it.
    state: DispatchState
    submission: Submission
    updated_at: datetime
    job_id: SlurmJobId | None = None
    events: tuple[Event, ...] = ()
    terminate_requested_at: datetime | None = None
    unknown_since: datetime | None = None
    """Since when a working Slurm does not know the job."""
    preempted_at: datetime | None = None
    """When Slurm announced that it takes the job's resources; later it may no longer say so."""
    is_preemption_told: bool = False
    """Whether the master knows."""
    reasons_told: tuple[str, ...] = ()
    """Words for why the job waits that there is an event about."""

    def moved(self, state: DispatchState, *, at: datetime, event: Event | None = None) -> Dispatch:
        """Return it in another state, with what there is to say about it."""
        events = self.events if event is None else (*self.events, event)[-_MAX_EVENTS:]
        return replace(self, state=transition(self.state, state), events=events, updated_at=at)


def now() -> datetime:
    """Return the time of day, with its zone."""
    return datetime.now(UTC)


def render_record(dispatch: Dispatch) -> bytes:
    """Write a dispatch as the record that is kept on disk."""
    data = {
        "version": _VERSION,
        "id": dispatch.id,
        "owner": dispatch.owner,
        "name": dispatch.name,
        "payload": dispatch.payload,
        "carrier": dispatch.carrier,
        "job_name": dispatch.job_name,
        "digest": dispatch.digest,
        "created_at": dispatch.created_at.isoformat(),
        "scope": dispatch.scope,
        "warning_s": dispatch.warning_s,
        "state": dispatch.state,
        "submission": dispatch.submission,
        "updated_at": dispatch.updated_at.isoformat(),
        "job_id": dispatch.job_id,
        "events": [
            {
                "level": event.level,
                "at": event.at.isoformat(),
                "reporter": event.reporter,
                "message": event.message,
            }
            for event in dispatch.events
        ],
        "terminate_requested_at": _text(dispatch.terminate_requested_at),
        "unknown_since": _text(dispatch.unknown_since),
        "preempted_at": _text(dispatch.preempted_at),
        "is_preemption_told": dispatch.is_preemption_told,
        "reasons_told": list(dispatch.reasons_told),
    }
    return json.dumps(data, indent=1).encode()


def parse_record(data: bytes) -> Dispatch:
    """Read a record.

    Raises:
        ValueError: It is no record, or of a version that we do not know.
    """
    try:
        record: dict[str, Any] = json.loads(data)
        if record["version"] != _VERSION:
            raise ValueError(f"version {record['version']} is not {_VERSION}")
        return Dispatch(
            id=DispatchId(record["id"]),
            owner=record["owner"],
            name=record["name"],
            payload=record["payload"],
            carrier=record["carrier"],
            job_name=record["job_name"],
            digest=record["digest"],
            created_at=datetime.fromisoformat(record["created_at"]),
            # Records of the first release lack these.
            scope=record.get("scope", ""),
            warning_s=record.get("warning_s"),
            state=DispatchState(record["state"]),
            submission=Submission(record["submission"]),
            updated_at=datetime.fromisoformat(record["updated_at"]),
            job_id=None if record["job_id"] is None else SlurmJobId(record["job_id"]),
            events=tuple(
                Event(
                    level=event["level"],
                    at=datetime.fromisoformat(event["at"]),
                    reporter=event["reporter"],
                    message=event["message"],
                )
                for event in record["events"]
            ),
            terminate_requested_at=_time(record["terminate_requested_at"]),
            unknown_since=_time(record["unknown_since"]),
            # Records of the first release lack these.
            preempted_at=_time(record.get("preempted_at")),
            is_preemption_told=record.get("is_preemption_told", False),
            reasons_told=tuple(record.get("reasons_told", ())),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no record of a dispatch: {error!r}") from error


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
