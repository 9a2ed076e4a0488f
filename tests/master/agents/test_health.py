"""Slots whose devices are ill, as agents of ours tell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_master.agents.fields import BadMessage
from shipway_master.agents.messages import SlotHealth, parse_message
from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually, launch, wait_for_end, wait_for_state
from tests.master.running import MasterUnderTest

LOST = {"SlotHealth": {"Problems": {"0": "the GPU is lost"}}}
WELL: dict[str, Any] = {"SlotHealth": {"Problems": {}}}


async def flags(master: MasterUnderTest) -> dict[str, tuple[bool, bool]]:
    """Fetch `enabled` and `draining` of each slot of the only agent."""
    answer = await master.call("GET", "/agents/agent-a/slots")
    if answer.status != 200:
        return {}
    return {slot["id"]: (slot["enabled"], slot["draining"]) for slot in answer.json["slots"]}


async def shows(master: MasterUnderTest, **expected: tuple[bool, bool]) -> None:
    """Wait until the slots have these flags, by `slot0`, `slot1`, …"""
    wanted = {name.removeprefix("slot"): value for name, value in expected.items()}

    async def look() -> bool:
        return await flags(master) == wanted

    await eventually(look)


async def test_an_ill_slot_gets_no_work_until_it_is_well(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url, slots=2).connected() as agent:
        assert agent.options["MasterInfo"]["shipway"] == {"slot_health": True}
        await shows(master, slot0=(True, False), slot1=(True, False))
        task_id = await launch(master, {"entrypoint": ["x"]})
        running = await agent.next_start()
        await agent.run(running)
        assert running["Container"]["devices"] == [agent.devices[0]]
        await agent.send(**LOST)
        await shows(master, slot0=(False, True), slot1=(True, False))
        await launch(master, {"entrypoint": ["y"]})
        assert (await agent.next_start())["Container"]["devices"] == [agent.devices[1]]
        waits = await launch(master, {"entrypoint": ["z"]})
        await agent.end(running)
        # What ran there went on to its own end, and left the slot to nobody.
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0
        await wait_for_state(master, waits, "QUEUED")
        assert agent.kills.empty()
        assert agent.starts.empty()
        await agent.send(**WELL)
        assert (await agent.next_start())["Container"]["devices"] == [agent.devices[0]]
        await shows(master, slot0=(True, False), slot1=(True, False))


async def test_what_people_decided_is_there_when_the_slot_is_well_again(
    master: MasterUnderTest,
) -> None:
    async with StandInAgent(master.url, slots=2).connected() as agent:
        await shows(master, slot0=(True, False), slot1=(True, False))
        await master.call("POST", "/agents/agent-a/slots/0/disable")
        both = {"Problems": {"0": "lost", "1": "lost"}}
        await agent.send(SlotHealth=both)
        await shows(master, slot0=(False, True), slot1=(False, True))
        enabled = await master.call("POST", "/agents/agent-a/slots/1/enable")
        assert enabled.json["slot"]["enabled"] is False
        await agent.send(**WELL)
        await shows(master, slot0=(False, False), slot1=(True, False))


async def test_an_agent_comes_with_the_health_of_its_slots(master: MasterUnderTest) -> None:
    agent = StandInAgent(master.url, slots=2)
    async with agent.connected(acks=None):
        started = {
            "Version": "1",
            "Devices": agent.devices,
            "ContainersReattached": [],
            "ResourcePoolName": "default",
        }
        await agent.send(AgentStarted={**started, **LOST})
        await shows(master, slot0=(False, True), slot1=(True, False))
        await launch(master, {"entrypoint": ["x"]})
        assert (await agent.next_start())["Container"]["devices"] == [agent.devices[1]]
    await shows(master, slot0=(False, True), slot1=(False, True))  # it is away
    # One that says nothing of health, such as the Go agent, has nothing to be remembered.
    async with agent.connected(reconnect=True):
        await shows(master, slot0=(True, False), slot1=(True, False))


async def test_a_task_waits_for_slots_that_are_ill(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url, slots=2).connected() as agent:
        await shows(master, slot0=(True, False), slot1=(True, False))
        await agent.send(**LOST)
        await shows(master, slot0=(False, True), slot1=(True, False))
        task_id = await launch(master, {"entrypoint": ["x"], "resources": {"slots": 2}})
        await wait_for_state(master, task_id, "QUEUED")
        await agent.send(**WELL)
        assert (await agent.next_start())["Container"]["devices"] == agent.devices


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"Problems": {"GPU-1": "lost"}}, "'GPU-1' is no id"),
        ({"Problems": {"0": 7}}, "Problems.0"),
        ({"Problems": ["lost"]}, "Problems"),
        ("lost", "SlotHealth"),
    ],
)
def test_a_wrong_health_is_refused(body: Any, text: str) -> None:
    with pytest.raises(BadMessage, match=text):
        parse_message(json.dumps({"SlotHealth": body}), peer_address="10.1.2.3")


def test_a_problem_without_words_is_one() -> None:
    read = parse_message('{"SlotHealth":{"Problems":{"3":null}}}', peer_address="10.1.2.3")
    assert read == SlotHealth(problems={3: "not told"})
