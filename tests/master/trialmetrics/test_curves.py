"""Comparisons that cannot be."""

from __future__ import annotations

from urllib.parse import urlencode

from shipway_master.store.database import opened
from tests.master.reporting import begin_trial
from tests.master.running import MasterUnderTest


async def test_wrong_comparisons_are_refused(master: MasterUnderTest) -> None:
    async with opened(master.database_url) as database:
        trial = {"trialIds": await begin_trial(database)}
    time = {"timeSeriesFilter.timeRange.lt": "2026-01-02T03:04:04Z"}
    for query, status in (
        ({}, 400),
        ({"trialIds": 999}, 404),
        ({**trial, "metricIds": "loss"}, 400),
        ({**trial, "maxDatapoints": -1}, 400),
        ({**trial, "timeSeriesFilter.name": "time"}, 400),
        ({**trial, "timeSeriesFilter.name": "epoch", **time}, 400),
    ):
        answer = await master.call("GET", f"/trials/time-series?{urlencode(query)}")
        assert (query, answer.status) == (query, status)
