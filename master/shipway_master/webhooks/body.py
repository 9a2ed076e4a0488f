"""The bodies of calls, and how they are signed."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shipway_master.webhooks.model import Event, FoundLine, Kind, Subject, Trigger, TriggerKind

_MARKS = {"COMPLETED": "✅", "ERROR": "❌", "CANCELED": "🚫"}


def render_event(event: Event, trigger: Trigger, kind: Kind, *, at: datetime) -> str:
    """Write what a webhook is sent of an event."""
    if kind is Kind.SLACK:
        return _dump({"text": _say(event)})
    data: dict[str, Any] = {"experiment": _describe(event.subject)}
    if event.alert is not None:
        data["custom"] = {
            "title": event.alert.title,
            "description": event.alert.description,
            "level": event.alert.level,
            "trial_id": event.alert.trial_id,
        }
    return _render(event.kind, trigger.condition, data, at)


def render_line(line: FoundLine, trigger: Trigger, kind: Kind, *, at: datetime) -> str:
    """Write what a webhook is sent of a line in a log."""
    if kind is Kind.SLACK:
        where = f"task {_escape(line.task_id)} on {_escape(line.node or 'an unknown node')}"
        return _dump({"text": f"{where} wrote:\n{_escape(line.text)}"})
    found = {"task_id": line.task_id, "node_name": line.node, "triggering_log": line.text}
    return _render(TriggerKind.TASK_LOG, trigger.condition, {"task_log": found}, at)


def render_test(kind: Kind) -> str:
    """Write what a webhook is sent on trial."""
    if kind is Kind.SLACK:
        return _dump({"text": "A webhook of your Determined cluster works."})
    return _render("TEST", {}, {"data": "test"}, datetime.now(UTC))


def sign(body: str, *, key: str, timestamp: int) -> str:
    """Sign a body: whoever has the key finds out that we have sent it, and when."""
    text = f"{timestamp},{body}".encode()
    return hmac.new(key.encode(), text, hashlib.sha256).hexdigest()


def _render(
    event_type: str, condition: Mapping[str, Any], data: Mapping[str, Any], at: datetime
) -> str:
    return _dump(
        {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "timestamp": int(at.timestamp()),
            "condition": condition,
            "event_data": data,
        }
    )


def _describe(subject: Subject) -> dict[str, Any]:
    return {
        "id": subject.id,
        "state": subject.state,
        "name": subject.name,
        "slots_per_trial": subject.slots_per_trial,
        "duration": subject.duration_s,
        "resource_pool": subject.resource_pool,
        "workspace": subject.workspace,
        "project": subject.project,
    }


def _say(event: Event) -> str:
    subject = event.subject
    where = f"{subject.workspace} / {subject.project}"
    what = f"experiment {subject.id} ({_escape(subject.name)})"
    if event.alert is not None:
        alert = event.alert
        return f"*{_escape(alert.title)}*\n{_escape(alert.description)}\n{what}, {_escape(where)}"
    mark = _MARKS.get(event.state or "", "")
    text = f"{mark} {what} is {(event.state or '').lower()} after {subject.duration_s} s"
    return f"{text.strip()}\n{_escape(where)}, pool {_escape(subject.resource_pool)}"


def _escape(text: str) -> str:
    """Keep Slack from reading a user's text as a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _dump(data: Mapping[str, Any]) -> str:
    # Receivers read the JSON and write it again without spaces to check the signature.
    return json.dumps(data, separators=(",", ":"), ensure_ascii=True)
