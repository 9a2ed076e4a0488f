"""A PostgreSQL server that goes away, and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shipway_master.store.database import opened
from tests.master.asking import eventually
from tests.master.conftest import PreparedPostgres
from tests.master.reporting import begin_trial, report, reports, send
from tests.master.running import master_running


async def test_a_server_that_was_away_is_used_again(
    postgres: PreparedPostgres, tmp_path: Path
) -> None:
    url = await asyncio.to_thread(postgres.server.make_database, like=postgres.url)
    async with master_running(postgres.prepared, tmp_path / "data", db={"url": url}) as master:
        assert (await master.call("GET", "/users")).status == 200

        await asyncio.to_thread(postgres.server.stop)
        try:
            away = await master.call("GET", "/users")
            async with master.session.get(f"{master.url}/health") as health:
                assert health.status == 503
        finally:
            await asyncio.to_thread(postgres.server.start)

        assert away.status == 503
        assert "database" in away.error["error"]

        async def is_back() -> bool:
            return (await master.call("GET", "/users")).status == 200

        await eventually(is_back)


async def test_a_report_waits_for_a_server_that_comes_back(
    postgres: PreparedPostgres, tmp_path: Path
) -> None:
    url = await asyncio.to_thread(postgres.server.make_database, like=postgres.url)
    async with master_running(postgres.prepared, tmp_path / "data", db={"url": url}) as master:
        async with opened(master.database_url) as database:
            trial_id = await begin_trial(database)
        await report(master, trial_id, {"loss": 1}, steps=1)

        await asyncio.to_thread(postgres.server.stop)
        try:
            waiting = asyncio.create_task(send(master, trial_id, {"loss": 2}, steps=2))
            away = await master.call("GET", "/users")
        finally:
            await asyncio.to_thread(postgres.server.start)

        assert away.status == 503
        assert (await waiting).status == 200
        assert [one["totalBatches"] for one in await reports(master, trial_id)] == [1, 2]
