"""Webhooks."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy.exc import IntegrityError

from shipway_master.errors import AlreadyExists, InvalidArgument, NotFound
from shipway_master.experiments.experiments import Experiments
from shipway_master.rpc import Call
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.structs import to_plain, to_struct
from shipway_master.webhooks.body import render_test
from shipway_master.webhooks.events import WebhookEvents
from shipway_master.webhooks.lines import LineWatch, check_expression
from shipway_master.webhooks.model import Alert, Kind, Mode, Trigger, TriggerKind, Webhook
from shipway_master.webhooks.records import WebhookRecords
from shipway_master.webhooks.sender import Sender
from shipway_master.workspaces.rights import get_workspace
from shipway_proto.determined.api.v1 import webhook_pb2 as api
from shipway_proto.determined.log.v1.log_pb2 import LogLevel
from shipway_proto.determined.webhook.v1 import webhook_pb2

_STATES: Final = ("COMPLETED", "ERROR", "CANCELED")
_NAME_LIMIT: Final = 120
_ALERT_LIMIT: Final = 64 * 1024


class WebhookService:
    """The RPCs of webhooks. Administrators alone make and see them: the master calls their addresses
    from where it is, and the addresses may hold secrets."""

    def __init__(
        self,
        database: Database,
        records: WebhookRecords,
        sender: Sender,
        events: WebhookEvents,
        lines: LineWatch,
        experiments: Experiments,
    ) -> None:
        self._database, self._records = database, records
        self._sender, self._events, self._lines = sender, events, lines
        self._experiments = experiments

    async def GetWebhooks(
        self, request: api.GetWebhooksRequest, call: Call
    ) -> api.GetWebhooksResponse:
        """List all webhooks."""
        call.principal.require_admin()
        return api.GetWebhooksResponse(webhooks=map(_view, await self._records.load_all()))

    async def PostWebhook(
        self, request: api.PostWebhookRequest, call: Call
    ) -> api.PostWebhookResponse:
        """Make a webhook."""
        call.principal.require_admin()
        webhook = _read(request.webhook)
        if webhook.workspace_id is not None:
            async with self._database.reading() as session:
                await get_workspace(session, webhook.workspace_id)
        try:
            webhook_id = await self._records.add(webhook)
        except IntegrityError as error:
            raise AlreadyExists(f"webhook '{webhook.name}' already exists") from error
        await self._lines.reload()
        return api.PostWebhookResponse(webhook=_view(await self._find(webhook_id)))

    async def PatchWebhook(
        self, request: api.PatchWebhookRequest, call: Call
    ) -> api.PatchWebhookResponse:
        """Change a webhook's address; what is still to be sent goes there, too."""
        call.principal.require_admin()
        _check_url(request.webhook.url)
        if not await self._records.set_url(request.id, request.webhook.url):
            raise NotFound("webhook", request.id)
        return api.PatchWebhookResponse()

    async def DeleteWebhook(
        self, request: api.DeleteWebhookRequest, call: Call
    ) -> api.DeleteWebhookResponse:
        """Delete a webhook; what was still to be sent to it is not."""
        call.principal.require_admin()
        if not await self._records.remove(request.id):
            raise NotFound("webhook", request.id)
        await self._lines.reload()
        return api.DeleteWebhookResponse()

    async def TestWebhook(
        self, request: api.TestWebhookRequest, call: Call
    ) -> api.TestWebhookResponse:
        """Call a webhook now, once, and say whether it answered well."""
        call.principal.require_admin()
        webhook = await self._find(request.id)
        completed = await self._sender.try_once(webhook.url, render_test(webhook.kind))
        return api.TestWebhookResponse(completed=completed)

    async def PostWebhookEventData(
        self, request: api.PostWebhookEventDataRequest, call: Call
    ) -> api.PostWebhookEventDataResponse:
        """Have the webhooks called that wait for what an experiment's own code says."""
        with told():
            record = await self._experiments.load_record(request.experiment_id)
        call.principal.require_owner_or_admin(record.owner_id)
        data = request.data
        if len(data.title) + len(data.description) > _ALERT_LIMIT:
            raise InvalidArgument(f"title and description have more than {_ALERT_LIMIT} characters")
        alert = Alert(
            title=data.title,
            description=data.description,
            level=LogLevel.Name(data.level).removeprefix("LOG_LEVEL_").lower(),
            trial_id=request.trial_id or None,
        )
        await self._events.alert(record, alert)
        return api.PostWebhookEventDataResponse()

    async def _find(self, webhook_id: int) -> Webhook:
        webhook = await self._records.find(webhook_id)
        if webhook is None:
            raise NotFound("webhook", webhook_id)
        return webhook


def _read(message: webhook_pb2.Webhook) -> Webhook:
    name = message.name
    if not name or len(name) > _NAME_LIMIT or not name.isprintable() or name != name.strip():
        raise InvalidArgument("a webhook's name has printable characters, 120 at most")
    _check_url(message.url)
    if not message.triggers:
        raise InvalidArgument("a webhook needs triggers")
    kind = _find_name(webhook_pb2.WebhookType, message.webhook_type).removeprefix("WEBHOOK_TYPE_")
    mode = _find_name(webhook_pb2.WebhookMode, message.mode).removeprefix("WEBHOOK_MODE_")
    if kind not in set(Kind):
        raise InvalidArgument(f"webhook_type must be one of {', '.join(Kind)}")
    return Webhook(
        name=name,
        url=message.url,
        kind=Kind(kind),
        mode=Mode(mode) if mode in set(Mode) else Mode.WORKSPACE,
        workspace_id=message.workspace_id or None,
        triggers=[_read_trigger(trigger) for trigger in message.triggers],
    )


def _read_trigger(message: webhook_pb2.Trigger) -> Trigger:
    kind = _find_name(webhook_pb2.TriggerType, message.trigger_type).removeprefix("TRIGGER_TYPE_")
    if kind not in set(TriggerKind):
        known = ", ".join(TriggerKind)
        raise InvalidArgument(f"trigger {kind}: this master has no such, but {known}")
    condition = to_plain(message.condition)
    if kind == TriggerKind.CUSTOM:
        return Trigger(kind=TriggerKind.CUSTOM, condition={})
    if kind == TriggerKind.TASK_LOG:
        regex = check_expression(condition.get("regex"))
        return Trigger(kind=TriggerKind.TASK_LOG, condition={"regex": regex})
    state = str(condition.get("state", "")).removeprefix("STATE_")
    if state not in _STATES:
        raise InvalidArgument(f"condition: state must be one of {', '.join(_STATES)}")
    return Trigger(kind=TriggerKind(kind), condition={"state": state})


def _find_name(kind: Any, number: int) -> str:
    """Find the name of a value of an enum, which over gRPC may be any number."""
    if number not in kind.values():
        raise InvalidArgument(f"there is no {kind.DESCRIPTOR.name} {number}")
    return str(kind.Name(number))


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidArgument("url must be one of http or https")


def _view(webhook: Webhook) -> webhook_pb2.Webhook:
    message = webhook_pb2.Webhook(
        id=webhook.id,
        name=webhook.name,
        url=webhook.url,
        webhook_type=webhook_pb2.WebhookType.Value(f"WEBHOOK_TYPE_{webhook.kind}"),
        mode=webhook_pb2.WebhookMode.Value(f"WEBHOOK_MODE_{webhook.mode}"),
        workspace_id=webhook.workspace_id or 0,
    )
    for trigger in webhook.triggers:
        shown = message.triggers.add(
            id=trigger.id,
            webhook_id=webhook.id,
            trigger_type=webhook_pb2.TriggerType.Value(f"TRIGGER_TYPE_{trigger.kind}"),
        )
        to_struct(trigger.condition, shown.condition)
    return message
