"""Webhooks: made, called when an experiment ends or speaks, and called again when that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from shipway_master.store.database import opened
from shipway_master.webhooks.model import Kind, Mode, Trigger, TriggerKind, Webhook
from shipway_master.webhooks.records import WebhookRecords
from shipway_master.webhooks.sender import Sender
from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually, launch
from tests.master.experiments.faults import refusing
from tests.master.running import MasterUnderTest, Prepared, master_running
from tests.master.webhooks.receiver import Receiver, receiving
from tests.proto.required import missing_required

KEY = "a-key-for-tests"
ENDED = {"triggerType": "TRIGGER_TYPE_EXPERIMENT_STATE_CHANGE", "condition": {"state": "CANCELED"}}
SAID: dict[str, Any] = {"triggerType": "TRIGGER_TYPE_CUSTOM", "condition": {}}
SEEN = {"triggerType": "TRIGGER_TYPE_TASK_LOG", "condition": {"regex": "^loss is (nan|inf)$"}}
EXPERIMENT: dict[str, Any] = {
    "name": "e <1>",
    "entrypoint": "true",
    "hyperparameters": {},
    "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
}


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    """Run a receiver."""
    async with receiving() as running:
        yield running


@pytest.fixture
async def master(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[MasterUnderTest]:
    """Run a master that signs with a known key."""
    changes = {"webhooks": {"signing_key": KEY}}
    async with master_running(prepared, tmp_path / "data", **changes) as running:
        yield running


async def make(master: MasterUnderTest, receiver: Receiver, **changes: Any) -> Any:
    """Ask for a webhook."""
    webhook: dict[str, Any] = {
        "name": "hook",
        "url": receiver.url,
        "webhookType": "WEBHOOK_TYPE_DEFAULT",
        "mode": "WEBHOOK_MODE_WORKSPACE",
        "triggers": [ENDED, SAID],
        **changes,
    }
    return await master.call("POST", "/webhooks", webhook)


async def create(master: MasterUnderTest, *, token: str = "user", **integrations: Any) -> int:
    """Make an experiment that waits, and return its id."""
    config = {**EXPERIMENT, "integrations": {"webhooks": integrations}}
    body = {"config": json.dumps(config), "activate": False}
    answer = await master.call("POST", "/experiments", body, token=token)
    assert answer.status == 200, answer.body
    experiment_id: int = answer.json["experiment"]["id"]
    return experiment_id


async def say(
    master: MasterUnderTest, experiment_id: int, title: str, *, token: str = "user"
) -> int:
    """Alert as the SDK's `core_context.alert` does; return the status."""
    data = {"title": title, "description": "why", "level": "LOG_LEVEL_WARNING"}
    body = {"data": data, "experimentId": experiment_id, "trialId": 7}
    return (await master.call("POST", "/webhooks/custom", body, token=token)).status


async def test_the_end_of_an_experiment_is_told_and_signed(
    master: MasterUnderTest, receiver: Receiver
) -> None:
    made = await make(master, receiver)
    experiment_id = await create(master)

    await master.call("POST", f"/experiments/{experiment_id}/kill", token="user")
    call = await receiver.next_call()

    assert missing_required("determined.api.v1.PostWebhookResponse", made.json) == []
    assert call.is_signed_with(KEY)
    assert call.json["event_type"] == "EXPERIMENT_STATE_CHANGE"
    assert call.json["condition"] == {"state": "CANCELED"}
    told = call.json["event_data"]["experiment"]
    assert (told["id"], told["state"], told["name"]) == (experiment_id, "CANCELED", "e <1>")
    assert (told["workspace"], told["project"]) == ("Uncategorized", "Uncategorized")


async def test_the_end_of_an_experiment_is_stored_with_the_calls_that_tell_of_it(
    master: MasterUnderTest, receiver: Receiver
) -> None:
    await make(master, receiver)
    experiment_id = await create(master)
    path = f"/experiments/{experiment_id}"

    async def get_state() -> str:
        state: str = (await master.call("GET", path)).json["experiment"]["state"]
        return state

    async def is_stopping() -> bool:
        return await get_state() == "STATE_STOPPING_KILLED"

    async with refusing(master.data, "INSERT ON webhook_deliveries"):
        kill = asyncio.ensure_future(master.call("POST", f"{path}/kill", token="user"))
        await eventually(is_stopping)
        await asyncio.wait([kill], timeout=0.2)
        assert await is_stopping(), "an end that would not be told of has not come"
    await kill
    call = await receiver.next_call()

    assert await get_state() == "STATE_CANCELED"
    assert call.json["event_data"]["experiment"]["state"] == "CANCELED"
    assert receiver.calls.empty()


async def test_what_an_experiment_says_goes_to_those_it_is_for(
    master: MasterUnderTest, receiver: Receiver
) -> None:
    other = await master.call("POST", "/workspaces", {"name": "other"})
    await make(master, receiver, workspaceId=other.json["workspace"]["id"], name="elsewhere")
    specific = {"mode": "WEBHOOK_MODE_SPECIFIC", "webhookType": "WEBHOOK_TYPE_SLACK"}
    named = (await make(master, receiver, name="named", **specific)).json["webhook"]
    await make(master, receiver, name="all", triggers=[SAID])

    unnamed, silent = await create(master), await create(master, exclude=True)
    by_name, by_id = (
        await create(master, webhook_name=["named"]),
        await create(master, webhook_id=[named["id"]]),
    )
    statuses = [await say(master, unnamed, "to all"), await say(master, silent, "to none")]
    first = await receiver.next_call()
    statuses += [await say(master, by_name, "<one>"), await say(master, by_id, "two")]
    texts = [(await receiver.next_call()).json for _ in range(4)]

    assert statuses == [200] * 4
    custom = {"title": "to all", "description": "why", "level": "warning", "trial_id": 7}
    assert first.json["event_data"]["custom"] == custom
    slack = sorted(one["text"].partition("\n")[0] for one in texts if "text" in one)
    assert slack == ["*&lt;one&gt;*", "*two*"]
    assert receiver.calls.empty()


async def test_a_line_in_a_log_is_told_once_for_each_task(
    master: MasterUnderTest, receiver: Receiver
) -> None:
    made = (await make(master, receiver, triggers=[SEEN])).json["webhook"]
    slack = {"webhookType": "WEBHOOK_TYPE_SLACK", "mode": "WEBHOOK_MODE_SPECIFIC"}
    await make(master, receiver, name="of experiments", triggers=[SEEN], **slack)
    async with StandInAgent(master.url).connected() as agent:
        for number in range(2):
            task_id = await launch(master, {"entrypoint": ["true"], "resources": {"slots": 1}})
            start = await agent.next_start()
            await agent.run(start)
            for text in ("loss is 1", f"{number}: loss is nan", "loss is nan", "loss is inf"):
                await agent.print(start, text)
            call = (await receiver.next_call()).json

            assert call["event_type"] == "TASK_LOG"
            assert call["condition"] == SEEN["condition"]
            assert call["event_data"] == {
                "task_log": {
                    "task_id": task_id,
                    "node_name": "agent-a",
                    "triggering_log": "loss is nan",
                }
            }
            await agent.end(start)
        await master.call("DELETE", f"/webhooks/{made['id']}")
        await launch(master, {"entrypoint": ["true"], "resources": {"slots": 1}})
        start = await agent.next_start()
        await agent.run(start)
        await agent.print(start, "loss is nan")
        await agent.end(start)
    assert receiver.calls.empty()


async def test_who_may_do_what(master: MasterUnderTest, receiver: Receiver) -> None:
    made = (await make(master, receiver)).json["webhook"]
    own, others = await create(master), await create(master, token="admin")
    changes: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("POST", "", {"name": "x"}),
        ("PATCH", f"/{made['id']}", {"url": receiver.url}),
        ("POST", f"/{made['id']}/test", None),
        ("DELETE", f"/{made['id']}", None),
    ]
    for verb, path, body in changes:
        assert (await master.call(verb, f"/webhooks{path}", body, token="user")).status == 403
    for verb, path in (("PATCH", "/77"), ("DELETE", "/77"), ("POST", "/77/test")):
        body = {"url": receiver.url} if verb == "PATCH" else None
        assert (await master.call(verb, f"/webhooks{path}", body)).status == 404
    assert await say(master, own, "mine") == 200
    assert await say(master, others, "not mine") == 403
    assert await say(master, 77, "nobody's") == 404


async def test_a_webhook_is_tried_changed_and_deleted(
    master: MasterUnderTest, receiver: Receiver
) -> None:
    made = (await make(master, receiver, url="http://127.0.0.1:1/")).json["webhook"]
    path = f"/webhooks/{made['id']}"

    unreachable = await master.call("POST", f"{path}/test")
    await master.call("PATCH", path, {"url": receiver.url})
    tried = await master.call("POST", f"{path}/test")
    listed = (await master.call("GET", "/webhooks")).json
    await master.call("DELETE", path)

    assert (unreachable.json, tried.json) == ({"completed": False}, {"completed": True})
    assert (await receiver.next_call()).json["event_data"] == {"data": "test"}
    assert listed["webhooks"] == [{**made, "url": receiver.url}]
    assert missing_required("determined.api.v1.GetWebhooksResponse", listed) == []
    assert (await master.call("GET", "/webhooks")).json["webhooks"] == []


async def test_what_is_no_webhook_is_refused(master: MasterUnderTest, receiver: Receiver) -> None:
    await make(master, receiver)
    wrong: list[tuple[dict[str, Any], int]] = [
        ({}, 409),
        ({"name": ""}, 400),
        ({"name": "b", "url": "file:///etc/passwd"}, 400),
        ({"name": "b", "url": "http://["}, 400),
        ({"name": "b", "triggers": []}, 400),
        ({"name": "b", "triggers": [{"triggerType": "TRIGGER_TYPE_TASK_LOG"}]}, 400),
        ({"name": "b", "triggers": [{**SEEN, "condition": {"regex": "("}}]}, 400),
        ({"name": "b", "triggers": [{**ENDED, "condition": {"state": "ACTIVE"}}]}, 400),
        ({"name": "b", "webhookType": "WEBHOOK_TYPE_UNSPECIFIED"}, 400),
        ({"name": "b", "workspaceId": 77}, 404),
    ]
    for changes, status in wrong:
        assert (await make(master, receiver, **changes)).status == status, changes


async def test_a_call_that_fails_is_made_again_also_after_a_restart(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.statuses = [500, 429, 200, 404]
    hook = Webhook(
        name="hook",
        url=receiver.url,
        kind=Kind.DEFAULT,
        mode=Mode.WORKSPACE,
        workspace_id=None,
        triggers=[Trigger(kind=TriggerKind.CUSTOM, condition={})],
    )
    async with opened(f"sqlite:///{tmp_path / 'm.db'}") as database:
        records = WebhookRecords(database)
        webhook_id = await records.add(hook)
        await records.enqueue([(webhook_id, '{"n":1}')])
        before = Sender(records, key=KEY, retry_delays_s=[0.05, 0.05])
        sending = asyncio.create_task(before.keep_sending())
        await receiver.next_call()
        sending.cancel()
        await asyncio.wait([sending])

        after = Sender(records, key=KEY, retry_delays_s=[0.05, 0.05])
        sending = asyncio.create_task(after.keep_sending())
        bodies = [(await receiver.next_call()).body for _ in range(2)]
        await records.enqueue([(webhook_id, '{"n":2}')])
        after.wake()
        bodies.append((await receiver.next_call()).body)

        async def is_settled() -> bool:
            return not await records.count_waiting(webhook_id)

        await eventually(is_settled)
        sending.cancel()
        await asyncio.wait([sending])

    assert set(bodies[:2]) == {b'{"n":1}'}
    assert bodies[2] == b'{"n":2}'
    assert receiver.calls.empty()
