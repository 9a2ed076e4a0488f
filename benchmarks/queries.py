"""How quickly pages of experiments and runs are found, against bare SQL for the same rows.

"ours" finds a page of 100 as the API's lists and searches do, and writes its messages. "bare" asks
SQLite itself, by the plain driver, for the number of all matches and for the columns of the page.

    python -m benchmarks.queries [--experiments 10000] [--trials 10]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.config import Security
from shipway_master.first_start import furnish
from shipway_master.queries.lists import list_experiments
from shipway_master.queries.loading import load_experiments, load_runs, load_trials
from shipway_master.queries.paging import load_page
from shipway_master.queries.search import search_experiments, search_runs
from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_proto.determined.api.v1.experiment_pb2 import GetExperimentsRequest

_TRIES = 7
_BATCH = 1000
_START = datetime(2026, 1, 1, tzinfo=UTC)
_READER = Principal(user_id=2, username="determined", is_admin=False)
_RUN_JOIN = "FROM trials t JOIN experiments e ON e.id = t.experiment_id WHERE t.project_id = 1"
_LOSS = "json_extract(t.summary_metrics, '$.validation_metrics.loss.min')"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=10, help="of each experiment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(Path(folder), options.experiments, options.trials))


async def _measure(folder: Path, experiments: int, trials: int) -> None:
    file = folder / "master.db"
    async with opened(f"sqlite:///{file}") as database:
        await furnish(database, Security(), folder)
        await _fill(database, experiments, trials)
        print(f"{experiments} experiments, {experiments * trials} trials; median of {_TRIES}, ms")
        for name, ours, bare in _cases():
            ours_ms = await _time(lambda ours=ours: _read(database, ours))
            bare_ms = await _time(lambda bare=bare: asyncio.to_thread(_ask, file, bare))
            print(f"  {name:28} ours {ours_ms:8.1f}  bare {bare_ms:8.1f}  {ours_ms / bare_ms:6.1f}")


Act = Callable[[AsyncSession], Awaitable[object]]


def _cases() -> Iterator[tuple[str, Act, tuple[str, str]]]:
    """Each with the SQL that counts all matches, and the one that reads the page."""
    every = "FROM experiments WHERE project_id = 1"
    yield (
        "GetExperiments",
        lambda session: _list(session, GetExperimentsRequest(project_id=1)),
        (f"SELECT count(*) {every}", f"SELECT * {every} ORDER BY id LIMIT 100"),
    )
    newest = GetExperimentsRequest(project_id=1, sort_by=GetExperimentsRequest.SORT_BY_START_TIME)
    yield (
        "GetExperiments by start",
        lambda session: _list(session, newest),
        (f"SELECT count(*) {every}", f"SELECT * {every} ORDER BY started_at LIMIT 100"),
    )
    yield (
        "SearchExperiments",
        lambda session: _search_experiments(session, "id=desc"),
        (f"SELECT count(*) {every}", f"SELECT * {every} ORDER BY id DESC LIMIT 100"),
    )
    yield (
        "SearchRuns",
        lambda session: _search_runs(session, "", "id=desc"),
        (f"SELECT count(*) {_RUN_JOIN}", f"SELECT t.* {_RUN_JOIN} ORDER BY t.id DESC LIMIT 100"),
    )
    better = f"{_RUN_JOIN} AND NOT e.archived AND NOT t.archived AND {_LOSS} < 0.1"
    yield (
        "SearchRuns by a metric",
        lambda session: _search_runs(session, _filter(), "id=desc"),
        (f"SELECT count(*) {better}", f"SELECT t.* {better} ORDER BY t.id DESC LIMIT 100"),
    )
    rate = "json_extract(t.hparams, '$.lr')"
    yield (
        "SearchRuns, sorted by an hp",
        lambda session: _search_runs(session, "", "hp.lr=asc"),
        (f"SELECT count(*) {_RUN_JOIN}", f"SELECT t.* {_RUN_JOIN} ORDER BY {rate} LIMIT 100"),
    )


async def _list(session: AsyncSession, request: GetExperimentsRequest) -> object:
    rows, _ = await load_page(session, list_experiments(request), offset=0, limit=100)
    return await load_experiments(session, [row[0] for row in rows], _READER)


async def _search_experiments(session: AsyncSession, sort: str) -> object:
    found = search_experiments(project_id=1, filter_text="", sort_text=sort)
    rows, _ = await load_page(session, found, offset=0, limit=100)
    await load_trials(session, [row[1] for row in rows if row[1] is not None])
    return await load_experiments(session, [row[0] for row in rows], _READER)


async def _search_runs(session: AsyncSession, text: str, sort: str) -> object:
    found = search_runs(TrialRow, ExperimentRow, project_id=1, filter_text=text, sort_text=sort)
    rows, _ = await load_page(session, found, offset=0, limit=100)
    return await load_runs(session, [(row[0], row[1]) for row in rows])


def _filter() -> str:
    condition = {
        "kind": "field",
        "columnName": "validation.loss.min",
        "location": "LOCATION_TYPE_VALIDATIONS",
        "type": "COLUMN_TYPE_NUMBER",
        "operator": "<",
        "value": 0.1,
    }
    group = {"kind": "group", "conjunction": "and", "children": [condition]}
    return json.dumps({"filterGroup": group, "showArchived": False})


async def _read(database: Database, act: Act) -> None:
    async with database.reading() as session:
        await act(session)


def _ask(file: Path, statements: tuple[str, str]) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


async def _time(act: Callable[[], Awaitable[object]]) -> float:
    times: list[float] = []
    for _ in range(_TRIES):
        begin = time.perf_counter()
        await act()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


async def _fill(database: Database, experiments: int, trials: int) -> None:
    chance = random.Random(1)
    for start in range(0, experiments, _BATCH):
        ids = range(start + 1, min(start + _BATCH, experiments) + 1)
        async with database.writing() as session:
            await session.execute(insert(ExperimentRow), [_experiment(one, trials) for one in ids])
            rows = [
                _trial(one, (one - 1) * trials + number, chance)
                for one in ids
                for number in range(1, trials + 1)
            ]
            await session.execute(insert(TrialRow), rows)


def _experiment(ident: int, trials: int) -> dict[str, Any]:
    config = json.dumps(
        {
            "name": f"experiment {ident}",
            "searcher": {"name": "random", "metric": "loss", "smaller_is_better": True},
            "hyperparameters": {
                name: {"type": "log", "minval": -4, "maxval": -1, "base": 10}
                for name in ("lr", "decay", "momentum")
            },
            "environment": {"image": dict.fromkeys(("cpu", "cuda"), "example/image:1")},
            "resources": {"slots_per_trial": 1, "resource_pool": "gpu"},
            "checkpoint_storage": {"type": "shared_fs", "host_path": "/checkpoints"},
        }
    )
    return {
        "id": ident,
        "job_id": f"job-{ident}",
        "state": "COMPLETED",
        "owner_id": 2,
        "project_id": 1,
        "name": f"experiment {ident}",
        "description": "",
        "labels": ["benchmark"],
        "notes": "",
        "config": config,
        "original_config": config,
        "resource_pool": "gpu",
        "manager": "agents",
        "slots_per_trial": 1,
        "priority": 42,
        "seed": 1,
        "archived": False,
        "unmanaged": False,
        "is_continued": False,
        "started_at": _START + timedelta(minutes=ident * 7919 % 100_003),
        "ended_at": _START + timedelta(days=100),
        "best_trial_id": (ident - 1) * trials + 1,
    }


def _trial(experiment_id: int, ident: int, chance: random.Random) -> dict[str, Any]:
    numbers = {"count": 10, "sum": 1.0, "min": chance.random(), "max": 1.0, "type": "number"}
    return {
        "id": ident,
        "experiment_id": experiment_id,
        "project_id": 1,
        "request_id": str(ident),
        "state": "COMPLETED",
        "hparams": {"lr": chance.random(), "decay": 0.1, "momentum": 0.9},
        "seed": 1,
        "run": 1,
        "judged_run": 1,
        "restarts": 0,
        "ports": [],
        "started_at": _START,
        "ended_at": _START,
        "runner_state": "",
        "excluded_nodes": [],
        "archived": False,
        "total_batches": 100,
        "searcher_metric": numbers["min"],
        "summary_metrics": {
            group: dict.fromkeys(("loss", "accuracy"), numbers)
            for group in ("avg_metrics", "validation_metrics")
        },
        "checkpoint_count": 0,
        "checkpoint_bytes": 0,
    }


if __name__ == "__main__":
    main()
