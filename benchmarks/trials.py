"""How many reports of metrics per second a master takes, against what does much less.

Ranks report as the harness does: REST, a connection each, the next report when the last is
answered. "master" is the whole master: token, checks, joining, the trial's summary and its best
validation, all in one transaction. "server" is aiohttp alone that writes the body of each request
as a row into an indexed SQLite table. "rows" are bare inserts of the same rows into such a table,
one transaction each, without any network: the limit.

    python -m benchmarks.trials [--reports 6400] [--ranks 64] [--metrics 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import sqlite3
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from shipway_master.app import running
from shipway_master.auth import Authenticator
from shipway_master.config import MasterConfig
from shipway_master.store.database import Database, opened
from shipway_master.store.experiments import ExperimentRow, TrialRow

_ADMIN = 1
_TABLE = (
    "CREATE TABLE reports (id INTEGER PRIMARY KEY, trial_id INTEGER, metric_group TEXT,"
    " steps INTEGER, run INTEGER, reported_at INTEGER, metrics TEXT);"
    "CREATE UNIQUE INDEX by_step ON reports (trial_id, metric_group, steps, run)"
)
_INSERT = "INSERT INTO reports VALUES (NULL, ?, ?, ?, ?, ?, ?)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=6400)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--metrics", type=int, default=8, help="in each report")
    options = parser.parse_args()
    print(
        f"{options.reports} reports of {options.metrics} metrics from {options.ranks} ranks;"
        " reports per second"
    )
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe()
        arguments = (theirs, Path(folder), options.ranks)
        server = context.Process(target=_serve, args=arguments, daemon=True)
        server.start()
        ports, token, trials, single = ours.recv()
        try:
            rows = _measure_rows(Path(folder) / "rows.db", _bodies(trials, options))
            print(f"  {'rows':24} {rows:8.0f}")
            for name, port, ids in (
                ("server", ports["server"], trials),
                ("master, a trial each", ports["master"], trials),
                ("master, all one trial", ports["master"], [single] * options.ranks),
            ):
                speed = asyncio.run(_measure(port, token, _bodies(ids, options)))
                print(f"  {name:24} {speed:8.0f}  ratio to rows {speed / rows:5.2f}")
        finally:
            server.terminate()
            server.join()


def _bodies(trials: Sequence[int], options: argparse.Namespace) -> list[list[bytes]]:
    """Write down the reports of each rank."""
    count = options.reports // options.ranks
    return [
        [_body(trial, rank, step, options) for step in range(count)]
        for rank, trial in enumerate(trials)
    ]


def _body(trial: int, rank: int, step: int, options: argparse.Namespace) -> bytes:
    metrics = {f"metric_{number}": (step + number) / 7 for number in range(options.metrics)}
    metrics["loss"] = 1 / (1 + step)
    return json.dumps(
        {
            "group": "validation" if step % 10 == 0 else "training",
            "metrics": {
                "trialId": trial,
                "trialRunId": 1,
                "stepsCompleted": step * options.ranks + rank,
                "reportTime": None,
                "metrics": {"avgMetrics": metrics, "batchMetrics": None},
            },
        }
    ).encode()


def _measure_rows(path: Path, bodies: Sequence[Sequence[bytes]]) -> float:
    rows = [_row(body) for some in zip(*bodies, strict=True) for body in some]
    with closing(_open(path)) as connection:
        begun = time.perf_counter()
        for row in rows:
            connection.execute(_INSERT, row)
        return len(rows) / (time.perf_counter() - begun)


def _row(body: bytes) -> tuple[Any, ...]:
    told = json.loads(body)
    metrics = told["metrics"]
    text = json.dumps(metrics["metrics"]["avgMetrics"])
    now_us = time.time_ns() // 1000
    return metrics["trialId"], told["group"], metrics["stepsCompleted"], 1, now_us, text


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(_TABLE)
    return connection


async def _measure(port: int, token: str, bodies: Sequence[Sequence[bytes]]) -> float:
    async def report(own: Sequence[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in own:
            trial = json.loads(body)["metrics"]["trialId"]
            writer.write(
                f"POST /api/v1/trials/{trial}/metrics HTTP/1.1\r\nHost: x\r\n"
                f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
        writer.close()

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for own in bodies:
            group.create_task(report(own))
    return sum(map(len, bodies)) / (time.perf_counter() - begun)


def _serve(pipe: multiprocessing.connection.Connection, folder: Path, ranks: int) -> None:
    asyncio.run(_serve_both(pipe, folder, ranks))


async def _serve_both(
    pipe: multiprocessing.connection.Connection, folder: Path, ranks: int
) -> None:
    settings = {"data": folder, "port": 0, "security": {"initial_user_password": "x"}}
    config = MasterConfig.model_validate(settings)
    async with running(config) as master:
        async with opened(config.db.resolve_url(folder)) as database:
            token, _ = await Authenticator(database).start_session(_ADMIN)
            *trials, single = await _add_trials(database, ranks + 1)
        ports = {"master": master.port, "server": await _serve_bare(folder / "server.db")}
        pipe.send((ports, token, trials, single))
        await asyncio.Event().wait()


async def _add_trials(database: Database, count: int) -> list[int]:
    """Write down trials in their first run; the searcher waits for none of them."""
    now = datetime.now(UTC)
    config = json.dumps({"searcher": {"name": "custom", "metric": "loss"}})
    experiment = ExperimentRow(
        job_id=str(uuid.uuid4()), state="COMPLETED", owner_id=_ADMIN, project_id=1, name="b",
        labels=[], config=config, original_config=config, resource_pool="p", manager="agent",
        slots_per_trial=1, priority=1, seed=1, unmanaged=True, started_at=now, ended_at=now,
    )  # fmt: skip
    async with database.writing() as session:
        session.add(experiment)
        await session.flush()
        rows = [
            TrialRow(
                experiment_id=experiment.id, project_id=1, state="COMPLETED", hparams={}, seed=1,
                run=1, started_at=now, ended_at=now, excluded_nodes=[], ports=[],
                summary_metrics={},
            )
            for _ in range(count)
        ]  # fmt: skip
        session.add_all(rows)
        await session.flush()
        return [row.id for row in rows]


async def _serve_bare(path: Path) -> int:
    connection = _open(path)

    async def take(request: web.Request) -> web.Response:
        connection.execute(_INSERT, _row(await request.read()))
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/api/v1/trials/{trial}/metrics", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


if __name__ == "__main__":
    main()
