"""From what happens to experiments to calls of webhooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import NotFound, ResourceExhausted
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_master.webhooks.body import render_event
from shipway_master.webhooks.model import Alert, Audience, Event, Subject, TriggerKind
from shipway_master.webhooks.records import add_calls, count_waiting_calls, load_webhooks
from shipway_master.webhooks.sender import Sender

log = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Calls of one webhook that may wait at a time."""


class WebhookEvents:
    """Finds the webhooks that an event is for, and has them called."""

    def __init__(self, database: Database, sender: Sender) -> None:
        self._database, self._sender = database, sender

    async def note_end(self, session: AsyncSession, record: ExperimentRecord) -> None:
        """Store the calls that tell that an experiment has come to its end.

        It is for the transaction that stores the end itself; `announce` comes after it.
        """
        subject = await _load_subject(session, record)
        kind = TriggerKind.EXPERIMENT_STATE_CHANGE
        full = await _store(session, Event(kind=kind, subject=subject, state=record.state.value))
        if full:
            log.warning(
                "webhooks are not told of the end of an experiment: too many calls are waiting",
                extra={"experiment_id": record.id, "webhooks": full},
            )

    def announce(self) -> None:
        """Have the calls made that are stored now."""
        self._sender.wake()

    async def alert(self, record: ExperimentRecord, alert: Alert) -> None:
        """Tell what an experiment's own code says.

        Raises:
            ResourceExhausted: It has said very much that is still to be sent.
        """
        async with self._database.writing() as session:
            subject = await _load_subject(session, record)
            event = Event(kind=TriggerKind.CUSTOM, subject=subject, alert=alert)
            full = await _store(session, event)
        self.announce()
        if full:
            raise ResourceExhausted(
                f"{MOST_WAITING} calls of webhooks are waiting already: {', '.join(full)}"
            )


async def _store(session: AsyncSession, event: Event) -> list[str]:
    """Store the calls of all webhooks that an event is for, but those with too many waiting.

    Returns:
        The names of these.
    """
    now = datetime.now(UTC)
    bodies: list[tuple[int, str]] = []
    full: list[str] = []
    for webhook in await load_webhooks(session, keep=True):
        trigger = webhook.find_trigger(event)
        if trigger is None:
            continue
        if await count_waiting_calls(session, webhook.id) < MOST_WAITING:
            bodies.append((webhook.id, render_event(event, trigger, webhook.kind, at=now)))
        else:
            full.append(webhook.name)
    add_calls(session, bodies)
    return full


async def _load_subject(session: AsyncSession, record: ExperimentRecord) -> Subject:
    statement = (
        select(ExperimentRow.name, ProjectRow.name, WorkspaceRow.name, WorkspaceRow.id)
        .join(ProjectRow, ProjectRow.id == ExperimentRow.project_id)
        .join(WorkspaceRow, WorkspaceRow.id == ProjectRow.workspace_id)
        .where(ExperimentRow.id == record.id)
    )
    found = (await session.execute(statement)).one_or_none()
    if found is None:
        raise NotFound("experiment", record.id)
    name, project, workspace, workspace_id = found
    ended_at = record.ended_at or datetime.now(UTC)
    return Subject(
        id=record.id,
        name=name,
        state=record.state.value,
        slots_per_trial=record.slots_per_trial,
        duration_s=int((ended_at - record.started_at).total_seconds()),
        resource_pool=record.pool,
        workspace=workspace,
        project=project,
        audience=read_audience(record.config, workspace_id=workspace_id),
    )


def read_audience(config: Mapping[str, Any], *, workspace_id: int) -> Audience:
    """Read from an experiment's configuration who may hear of it."""
    integrations: Mapping[str, Any] = config.get("integrations") or {}
    section: Mapping[str, Any] = integrations.get("webhooks") or {}
    return Audience(
        workspace_id=workspace_id,
        named=frozenset([*(section.get("webhook_id") or ()), *(section.get("webhook_name") or ())]),
        is_excluded=bool(section.get("exclude")),
    )
