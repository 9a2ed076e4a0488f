"""Webhooks and deliveries in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.database import Database
from shipway_master.store.webhooks import DeliveryRow, WebhookRow, WebhookTriggerRow
from shipway_master.webhooks.model import Kind, Mode, Trigger, TriggerKind, Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A call that is still to be made."""

    id: int
    webhook_id: int
    name: str
    """Of the webhook."""
    url: str = field(repr=False)
    body: str = field(repr=False)
    tries: int
    """Those that have failed."""


class WebhookRecords:
    """Reads and writes webhooks and what is to be sent to them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_all(self) -> list[Webhook]:
        """Load all webhooks by id."""
        async with self._database.reading() as session:
            return await load_webhooks(session)

    async def find(self, webhook_id: int) -> Webhook | None:
        """Load one webhook."""
        return next((one for one in await self.load_all() if one.id == webhook_id), None)

    async def add(self, webhook: Webhook) -> int:
        """Store a new webhook and return its id."""
        row = WebhookRow(
            name=webhook.name,
            url=webhook.url,
            kind=webhook.kind.value,
            mode=webhook.mode.value,
            workspace_id=webhook.workspace_id,
        )
        async with self._database.writing() as session:
            session.add(row)
            await session.flush()
            session.add_all(
                WebhookTriggerRow(
                    webhook_id=row.id, kind=one.kind.value, condition=dict(one.condition)
                )
                for one in webhook.triggers
            )
        return row.id

    async def set_url(self, webhook_id: int, url: str) -> bool:
        """Change the address of a webhook; False if there is none of this id."""
        statement = update(WebhookRow).where(WebhookRow.id == webhook_id).values(url=url)
        async with self._database.writing() as session:
            changed = await session.scalar(statement.returning(WebhookRow.id))
        return changed is not None

    async def remove(self, webhook_id: int) -> bool:
        """Delete a webhook and what is to be sent to it; False if there is none of this id."""
        statement = delete(WebhookRow).where(WebhookRow.id == webhook_id)
        async with self._database.writing() as session:
            removed = await session.scalar(statement.returning(WebhookRow.id))
        return removed is not None

    async def count_waiting(self, webhook_id: int) -> int:
        """Count the calls of a webhook that are still to be made."""
        async with self._database.reading() as session:
            return await count_waiting_calls(session, webhook_id)

    async def enqueue(self, bodies: Sequence[tuple[int, str]]) -> None:
        """Store calls, as pairs of webhook and body, that are to be made at once."""
        async with self._database.writing() as session:
            add_calls(session, bodies)

    async def load_due(self, *, limit: int) -> list[Delivery]:
        """Load the calls whose time has come, the oldest first."""
        statement = (
            select(DeliveryRow, WebhookRow.name, WebhookRow.url)
            .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
            .where(DeliveryRow.due_at <= datetime.now(UTC))
            .order_by(DeliveryRow.due_at, DeliveryRow.id)
            .limit(limit)
        )
        async with self._database.reading() as session:
            return [
                Delivery(
                    id=row.id,
                    webhook_id=row.webhook_id,
                    name=name,
                    url=url,
                    body=row.body,
                    tries=row.tries,
                )
                for row, name, url in await session.execute(statement)
            ]

    async def find_next_due(self) -> datetime | None:
        """When the next call is to be made; None if there is nothing to send."""
        async with self._database.reading() as session:
            return await session.scalar(select(func.min(DeliveryRow.due_at)))

    async def settle(self, delivery: Delivery) -> None:
        """Forget a call: it was made, or is given up."""
        statement = delete(DeliveryRow).where(DeliveryRow.id == delivery.id)
        async with self._database.writing() as session:
            await session.execute(statement)

    async def postpone(self, delivery: Delivery, *, delay_s: float) -> None:
        """Try a call again later."""
        due_at = datetime.now(UTC) + timedelta(seconds=delay_s)
        statement = update(DeliveryRow).where(DeliveryRow.id == delivery.id)
        async with self._database.writing() as session:
            await session.execute(statement.values(tries=delivery.tries + 1, due_at=due_at))


async def load_webhooks(session: AsyncSession, *, keep: bool = False) -> list[Webhook]:
    """Load all webhooks by id; with *keep* none of them can be deleted before the transaction ends."""
    statement = select(WebhookRow).order_by(WebhookRow.id)
    if keep:
        statement = statement.with_for_update(read=True, key_share=True)
    rows = (await session.scalars(statement)).all()
    triggers = await session.scalars(select(WebhookTriggerRow).order_by(WebhookTriggerRow.id))
    by_webhook: defaultdict[int, list[Trigger]] = defaultdict(list)
    for one in triggers:
        trigger = Trigger(id=one.id, kind=TriggerKind(one.kind), condition=one.condition)
        by_webhook[one.webhook_id].append(trigger)
    return [
        Webhook(
            id=row.id,
            name=row.name,
            url=row.url,
            kind=Kind(row.kind),
            mode=Mode(row.mode),
            workspace_id=row.workspace_id,
            triggers=by_webhook[row.id],
        )
        for row in rows
    ]


async def count_waiting_calls(session: AsyncSession, webhook_id: int) -> int:
    """Count the calls of a webhook that are still to be made."""
    statement = select(func.count()).where(DeliveryRow.webhook_id == webhook_id)
    return await session.scalar(statement) or 0


def add_calls(session: AsyncSession, bodies: Sequence[tuple[int, str]]) -> None:
    """Store calls, as pairs of webhook and body, that are to be made at once."""
    now = datetime.now(UTC)
    session.add_all(
        DeliveryRow(webhook_id=webhook_id, body=body, due_at=now) for webhook_id, body in bodies
    )
