"""From what happens to experiments to calls of webhooks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from shipway_master.errors import NotFound, ResourceExhausted
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_master.webhooks.body import render_event
from shipway_master.webhooks.model import Alert, Audience, Event, Subject, TriggerKind
from shipway_master.webhooks.records import WebhookRecords
from shipway_master.webhooks.sender import Sender

log = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Calls of one webhook that may wait at a time."""


class WebhookEvents:
    """Finds the webhooks that an event is for, and has them called."""

    def __init__(self, database: Database, records: WebhookRecords, sender: Sender) -> None:
        self._database, self._records, self._sender = database, records, sender

    async def experiment_ended(self, record: ExperimentRecord) -> None:
        """Tell that an experiment has come to its end."""
        subject = await self._load_subject(record)
        kind = TriggerKind.EXPERIMENT_STATE_CHANGE
        full = await self._tell(Event(kind=kind, subject=subject, state=record.state.value))
        if full:
            log.warning(
                "webhooks were not told of the end of an experiment: too many calls are waiting",
                extra={"experiment_id": record.id, "webhooks": full},
            )

    async def alert(self, record: ExperimentRecord, alert: Alert) -> None:
        """Tell what an experiment's own code says.

        Raises:
            ResourceExhausted: It has said very much that is still to be sent.
        """
        subject = await self._load_subject(record)
        full = await self._tell(Event(kind=TriggerKind.CUSTOM, subject=subject, alert=alert))
        if full:
            raise ResourceExhausted(
                f"{MOST_WAITING} calls of webhooks are waiting already: {', '.join(full)}"
            )

    async def _tell(self, event: Event) -> list[str]:
        """Have all webhooks called that an event is for, but those with too many calls waiting.

        Returns:
            The names of these.
        """
        now = datetime.now(UTC)
        bodies: list[tuple[int, str]] = []
        full: list[str] = []
        for webhook in await self._records.load_all():
            trigger = webhook.find_trigger(event)
            if trigger is None:
                continue
            if await self._records.count_waiting(webhook.id) < MOST_WAITING:
                bodies.append((webhook.id, render_event(event, trigger, webhook.kind, at=now)))
            else:
                full.append(webhook.name)
        if bodies:
            await self._records.enqueue(bodies)
            self._sender.wake()
        return full

    async def _load_subject(self, record: ExperimentRecord) -> Subject:
        statement = (
            select(ExperimentRow.name, ProjectRow.name, WorkspaceRow.name, WorkspaceRow.id)
            .join(ProjectRow, ProjectRow.id == ExperimentRow.project_id)
            .join(WorkspaceRow, WorkspaceRow.id == ProjectRow.workspace_id)
            .where(ExperimentRow.id == record.id)
        )
        async with self._database.reading() as session:
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
