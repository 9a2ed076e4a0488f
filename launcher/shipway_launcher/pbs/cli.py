"""PBS by its command line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from shipway_launcher.commandline import CommandLine, Programs
from shipway_launcher.errors import (
    BackendUnreadable,
    CommandTimedOut,
    SubmissionDoubtful,
)
from shipway_launcher.pbs import commands
from shipway_launcher.pbs.failures import (
    classify_failure,
    only_tells_of_ended_jobs,
    only_tells_of_missing_jobs,
)
from shipway_launcher.pbs.parse import parse_jobs, parse_submitted
from shipway_launcher.pbs.parse_cluster import parse_cluster, parse_history_setting
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.slurm.rows import ClusterRows, JobRow, SlurmJobId
from shipway_launcher.transport.base import Transport

T = TypeVar("T")


class CommandLinePbs:
    """The PBS complex that the commands belong to."""

    def __init__(
        self,
        programs: Programs,
        own: Transport,
        *,
        query_timeout_s: float,
        submit_timeout_s: float,
    ) -> None:
        """Make the backend; nothing is run yet.

        Args:
            programs: Where the commands are.
            own: As whom questions are asked that concern all users.
            query_timeout_s: How long an answer to a question is waited for.
            submit_timeout_s: How long an answer of qsub is waited for.
        """
        self._line = CommandLine(
            programs=programs,
            submits="qsub",
            cancels=frozenset({"qdel", "qsig"}),
            query_environment=commands.QUERY_ENVIRONMENT,
            query_timeout_s=query_timeout_s,
            classify=classify_failure,
        )
        self._own, self._submit_timeout_s = own, submit_timeout_s
        self._facts: SlurmFacts | None = None

    async def facts(self) -> SlurmFacts:
        if self._facts is None:
            self._facts = await self._ask_facts()
        return self._facts

    async def _ask_facts(self) -> SlurmFacts:
        said = await self._line.ask(self._own, commands.show_version())
        match = re.search(r"pbs_version\s*=\s*(\S+)", said)
        release = f"PBS {match.group(1)}" if match else None
        return SlurmFacts(version=None, mpi_plugins=frozenset(), release=release)

    async def submit(self, script: Path, *, user: Transport) -> SlurmJobId:
        argv = commands.submit(str(script))
        try:
            done = await self._line.run(user, argv, self._submit_timeout_s)
        except CommandTimedOut as error:
            raise SubmissionDoubtful(str(error)) from error
        return self._line.read_submission(argv, done, parse_submitted(done.stdout_text))

    async def jobs(self, *, user: Transport | None = None) -> list[JobRow]:
        stdout = await self._line.ask(user or self._own, commands.list_jobs())
        return await _read(lambda: parse_jobs(stdout))

    async def accounted(self, job_ids: Collection[SlurmJobId]) -> Mapping[SlurmJobId, JobRow]:
        """Ask for the history, which a server keeps where `job_history_enable` is set."""
        if not job_ids:
            return {}
        argv = commands.list_ended(job_ids)
        done = await self._line.question(self._own, argv)
        if done.exit_status != 0 and not only_tells_of_missing_jobs(done.stderr_text):
            raise self._line.error_of(argv, done)
        if "{" not in done.stdout_text:
            return {}
        rows = await _read(lambda: parse_jobs(done.stdout_text))
        return {row.id: row for row in rows}

    async def cancel(
        self, job_ids: Collection[SlurmJobId], *, user: Transport, signal: str | None = None
    ) -> None:
        if not job_ids:
            return
        argv = commands.cancel(job_ids)
        if signal is not None:
            argv = commands.send_signal(job_ids, f"SIG{signal}")
        done = await self._line.run(user, argv)
        if done.exit_status != 0 and not only_tells_of_ended_jobs(done.stderr_text):
            raise self._line.error_of(argv, done)

    async def keeps_history(self) -> bool:
        """Say whether the server remembers jobs that have ended."""
        stdout = await self._line.ask(self._own, commands.show_server())
        return await _read(lambda: parse_history_setting(stdout))

    async def cluster(self) -> ClusterRows:
        queues, server, nodes = [
            await self._line.ask(self._own, argv)
            for argv in (commands.list_queues(), commands.show_server(), commands.list_nodes())
        ]
        return await _read(lambda: parse_cluster(queues, server, nodes))


async def _read(parse: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(parse)
    except ValueError as error:
        raise BackendUnreadable(f"PBS's answer cannot be read: {error}") from error
