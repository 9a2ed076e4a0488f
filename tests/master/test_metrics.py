"""The master's metrics, as a scraper reads them."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually, launch, wait_for_state
from tests.master.running import MasterUnderTest

STATE, OWN = "/prom/det-state-metrics", "/debug/prom/metrics"


async def scrape(master: MasterUnderTest, path: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Read the samples, by name and then by the values of their labels (in the order of their names)."""
    async with master.session.get(f"{master.url}{path}", headers=master.auth()) as answer:
        assert answer.status == 200
        text = await answer.text()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def test_slots_agents_and_jobs_are_counted_by_pool(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        await launch(master, {"entrypoint": ["sleep 9"], "resources": {"slots": 3}})
        task_id = await launch(master, {"entrypoint": ["sleep 9"], "resources": {"slots": 2}})
        await agent.run(await agent.next_start())

        async def slots() -> dict[tuple[str, ...], float] | None:
            seen = (await scrape(master, STATE))["shipway_master_slots"]
            return seen if seen["default", "busy"] else None

        seen = await eventually(slots)
        assert seen == {
            ("default", "free"): 1,
            ("default", "busy"): 3,
            ("default", "draining"): 0,
            ("default", "disabled"): 0,
        }
        found = await scrape(master, STATE)
        assert found["shipway_master_jobs"] == {
            ("default", "queued"): 1,
            ("default", "scheduled"): 1,
        }
        assert found["shipway_master_agents"]["true", "default"] == 1
        await master.call("POST", "/agents/agent-a/slots/3/disable", {})
        assert (await scrape(master, STATE))["shipway_master_slots"]["default", "disabled"] == 1
        await wait_for_state(master, task_id, "QUEUED")


async def test_calls_are_counted_by_how_they_ended(master: MasterUnderTest) -> None:
    await master.call("GET", "/me")
    await master.call("GET", "/tasks/none")
    await master.call("GET", "/experiments")

    found = await scrape(master, OWN)

    calls = found["shipway_master_calls_total"]
    assert calls["GetMe", "OK"] == 1
    assert calls["GetTask", "NotFound"] == 1
    assert found["shipway_master_call_seconds_count"]["GetMe",] == 1
    assert found["shipway_master_process_resident_memory_bytes"][()] > 10e6


@pytest.mark.parametrize("path", [STATE, OWN])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}])
async def test_metrics_are_for_users(master: MasterUnderTest, path: str, headers: Any) -> None:
    async with master.session.get(f"{master.url}{path}", headers=headers) as answer:
        assert answer.status == 401
