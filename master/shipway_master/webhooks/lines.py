"""Looks in the logs of tasks for what webhooks wait for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter

from sqlalchemy import select

from shipway_master.errors import InvalidArgument, Unavailable
from shipway_master.logbook.lines import LogLine
from shipway_master.logbook.search import many_search, pattern_search
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow
from shipway_master.store.tasks import TaskRow
from shipway_master.webhooks.body import render_line
from shipway_master.webhooks.events import MOST_WAITING, read_audience
from shipway_master.webhooks.model import Audience, FoundLine, Trigger, TriggerKind, Webhook
from shipway_master.webhooks.records import WebhookRecords
from shipway_master.webhooks.sender import Sender

log = logging.getLogger(__name__)

_MOST_FOUND = 1000
_TASKS_REMEMBERED = 10_000
_LONGEST_LINE = 4096
_AFTER_TROUBLE_S = 5.0
_task_id = attrgetter("task_id")


@dataclass(frozen=True, slots=True)
class _Search:
    webhook: Webhook
    trigger: Trigger
    finds: Callable[[str], object] = field(repr=False)


class LineWatch:
    """Knows the expressions of all webhooks; where there are none, it costs nothing.

    Each trigger tells of a task once, as long as the master is not restarted.
    """

    def __init__(self, database: Database, records: WebhookRecords, sender: Sender) -> None:
        self._database, self._records, self._sender = database, records, sender
        self._searches: Sequence[_Search] = ()
        self._may_find = many_search([])
        self._told: OrderedDict[str, set[int]] = OrderedDict()
        self._found: asyncio.Queue[tuple[_Search, FoundLine]] = asyncio.Queue(_MOST_FOUND)

    async def reload(self) -> None:
        """Hear that webhooks were made or deleted."""
        self._searches = [
            _Search(webhook, trigger, pattern_search(trigger.condition["regex"]))
            for webhook in await self._records.load_all()
            for trigger in webhook.triggers
            if trigger.kind is TriggerKind.TASK_LOG
        ]
        self._may_find = many_search([one.trigger.condition["regex"] for one in self._searches])

    def see(self, lines: Sequence[LogLine]) -> None:
        """Look at lines that have been stored."""
        if not self._searches:
            return
        for task_id, of_task in groupby(lines, key=_task_id):
            self._look(task_id, [one for one in of_task if one.source != "master"])

    def _look(self, task_id: str, lines: Sequence[LogLine]) -> None:
        texts = [line.text.rstrip("\r\n") for line in lines]
        told = self._told.get(task_id, set())
        for search in self._searches if self._may_find(texts) else ():
            if search.trigger.id in told:
                continue
            for line, text in zip(lines, texts, strict=True):
                if search.finds(text):
                    told.add(search.trigger.id)
                    self._note(search, line)
                    break
        if told:
            self._told[task_id] = told
            self._told.move_to_end(task_id)
            if len(self._told) > _TASKS_REMEMBERED:
                self._told.popitem(last=False)

    def _note(self, search: _Search, line: LogLine) -> None:
        text = line.text.rstrip("\r\n")[:_LONGEST_LINE]
        found = FoundLine(task_id=line.task_id, node=line.agent_id or "", text=text)
        try:
            self._found.put_nowait((search, found))
        except asyncio.QueueFull:
            log.warning("a line that a webhook waits for is lost: there are too many")

    async def keep_telling(self) -> None:
        """Have webhooks called, for ever."""
        while True:
            search, line = await self._found.get()
            try:
                await self._tell(search, line)
            except Unavailable as error:
                log.warning("a line that a webhook waits for is lost: %s", error)
                await asyncio.sleep(_AFTER_TROUBLE_S)

    async def _tell(self, search: _Search, line: FoundLine) -> None:
        webhook = search.webhook
        audience = await self._find_audience(line.task_id)
        if audience is None or not webhook.hears_of(audience):
            return
        if await self._records.count_waiting(webhook.id) >= MOST_WAITING:
            log.warning("too many calls of a webhook wait", extra={"webhook": webhook.name})
            return
        body = render_line(line, search.trigger, webhook.kind, at=datetime.now(UTC))
        await self._records.enqueue([(webhook.id, body)])
        self._sender.wake()

    async def _find_audience(self, task_id: str) -> Audience | None:
        of_trial = (
            select(ExperimentRow.config)
            .join(TrialRow, TrialRow.experiment_id == ExperimentRow.id)
            .join(TrialTaskRow, TrialTaskRow.trial_id == TrialRow.id)
            .where(TrialTaskRow.task_id == task_id)
        )
        async with self._database.reading() as session:
            task = await session.get(TaskRow, task_id)
            config = await session.scalar(of_trial)
        if task is None:
            return None
        return read_audience(json.loads(config or "{}"), workspace_id=task.workspace_id)


def check_expression(text: object) -> str:
    """Refuse what is no regular expression.

    Raises:
        InvalidArgument: It is none, is empty, or is too long.
    """
    if not isinstance(text, str) or not text:
        raise InvalidArgument("condition: regex must be a regular expression")
    pattern_search(text)
    return text
