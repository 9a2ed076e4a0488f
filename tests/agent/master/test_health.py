"""The health of the slots, for a master that wants to know and for one that must not be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from shipway_agent.master.health import HealthReports
from shipway_agent.master.link import Greeting
from shipway_agent.master.messages import (
    AgentStarted,
    MasterOptions,
    SignalContainer,
    SlotHealth,
    StartContainer,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.master.wire import encode_message, parse_message

STARTED = AgentStarted(version="1", devices=[], reattached=[], resource_pool="default")


class Watch:
    """Slots whose health a test decides."""

    def __init__(self) -> None:
        self.ill: dict[int, str] = {}
        self.is_patient = False

    def problems(self) -> Mapping[int, str]:
        return dict(self.ill)

    def be_patient(self, is_patient: bool) -> None:
        self.is_patient = is_patient


class Agent:
    """Obeys by doing nothing."""

    def greet(self, options: MasterOptions) -> Greeting:
        return Greeting(started=STARTED, missed=[])

    def obey(self, order: StartContainer | SignalContainer) -> None:
        raise AssertionError(order)


def options(**changes: Any) -> MasterOptions:
    return MasterOptions(master_id="m", cluster_id="c", version="1", expected=(), **changes)


@pytest.mark.parametrize(
    ("info", "wants"),
    [
        ({}, False),
        ({"shipway": {"slot_health": True}}, True),
        ({"shipway": {"slot_health": False}}, False),
        ({"shipway": {"something_new": 1}}, False),
        ({"shipway": None}, False),
    ],
)
def test_the_master_says_whether_it_wants_to_know(info: Any, wants: bool) -> None:
    text = json.dumps({"MasterSetAgentOptions": {"MasterInfo": {"master_id": "m", **info}}})
    read = parse_message(text)
    assert isinstance(read, MasterOptions)
    assert read.wants_slot_health is wants


async def test_a_master_that_wants_it_is_told_at_once_and_of_each_change() -> None:
    watch, outbox = Watch(), Outbox()
    reports = HealthReports(Agent(), watch, outbox)
    watch.ill = {1: "lost"}
    greeting = reports.greet(options(wants_slot_health=True))
    assert watch.is_patient
    assert reports.greeted.is_set()
    assert greeting.started.problems == {1: "lost"}
    watch.ill = {}
    reports.tell()
    assert (await outbox.take()).message == SlotHealth(problems={})


async def test_a_master_that_does_not_ask_is_never_told() -> None:
    watch, outbox = Watch(), Outbox()
    reports = HealthReports(Agent(), watch, outbox)
    reports.greet(options(wants_slot_health=True))
    watch.ill = {1: "lost"}
    greeting = reports.greet(options())  # another master, on the next connection
    assert not watch.is_patient
    assert greeting.started is STARTED
    reports.tell()
    assert outbox.sent_number == 0
    await outbox.wait_empty()


def test_how_it_is_written() -> None:
    health = {"Problems": {"0": "ECC", "10": "lost"}}
    written = json.loads(encode_message(SlotHealth(problems={10: "lost", 0: "ECC"})))
    assert {key: value for key, value in written.items() if value is not None} == {
        "SlotHealth": health
    }
    assert len(written) == 5
    started = AgentStarted(
        version="1", devices=[], reattached=[], resource_pool="", problems={10: "lost", 0: "ECC"}
    )
    assert json.loads(encode_message(started))["AgentStarted"]["SlotHealth"] == health
    assert "SlotHealth" not in encode_message(STARTED)
