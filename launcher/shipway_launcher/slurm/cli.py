"""Slurm by its command line, which every release has."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from shipway_launcher.commandline import CommandLine, Programs
from shipway_launcher.errors import (
    BackendError,
    BackendRefused,
    BackendUnreachable,
    BackendUnreadable,
    CommandTimedOut,
    LauncherError,
    SubmissionDoubtful,
)
from shipway_launcher.slurm import commands
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.slurm.commands import NODE_FIELDS, Columns
from shipway_launcher.slurm.listing import JobListing
from shipway_launcher.slurm.parse import (
    classify_failure,
    parse_accounting,
    parse_submitted,
)
from shipway_launcher.slurm.parse_cluster import parse_nodes, parse_partitions
from shipway_launcher.slurm.rows import ClusterRows, JobRow, SlurmJobId
from shipway_launcher.slurm.version import parse_version
from shipway_launcher.transport.base import Transport

log = logging.getLogger(__name__)

T = TypeVar("T")

_FACTS_FOR_S = 600.0
_NO_ACCOUNTING_FOR_S = 600.0
_NO_ACCOUNTING = re.compile(
    r"accounting storage is disabled|not running a supported accounting_storage plugin",
    re.IGNORECASE,
)
_ACCOUNTING_AGAIN_S = 60.0
_SUSPICIOUS_AFTER_S = 1.0
_PING_TIMEOUT_S = 3.0
_DOWN = "Unable to contact slurm controller: scontrol ping says that it is DOWN"


class CommandLineSlurm:
    """The cluster that the commands on this machine belong to."""

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
            submit_timeout_s: How long an answer of sbatch is waited for.
        """
        self._line = CommandLine(
            programs=programs,
            submits="sbatch",
            cancels=frozenset({"scancel"}),
            query_environment=commands.QUERY_ENVIRONMENT,
            query_timeout_s=query_timeout_s,
            classify=classify_failure,
        )
        self._own, self._submit_timeout_s = own, submit_timeout_s
        self._facts: SlurmFacts | None = None
        self._facts_until = 0.0
        self._no_accounting_until = 0.0
        self._accounting_error: BackendError | None = None
        self._accounting_again_at = 0.0
        self._listing = JobListing()

    async def facts(self) -> SlurmFacts:
        if self._facts is None or time.monotonic() > self._facts_until:
            self._facts = await self._ask_facts()
            self._facts_until = time.monotonic() + _FACTS_FOR_S
        return self._facts

    async def _ask_facts(self) -> SlurmFacts:
        version = await self._line.run(self._own, commands.show_version())
        plugins: frozenset[str] = frozenset()
        with suppress(LauncherError):  # without srun here, the job's own srun will tell
            listed = await self._line.run(self._own, commands.list_mpi())
            text = listed.stdout_text + listed.stderr_text
            plugins = frozenset(re.findall(r"^(?:srun: )?\s+(\w+)$", text, re.MULTILINE))
        return SlurmFacts(version=parse_version(version.stdout_text), mpi_plugins=plugins)

    async def submit(self, script: Path, *, user: Transport) -> SlurmJobId:
        argv = commands.submit(str(script))
        try:
            done = await self.while_up(self._line.run(user, argv, self._submit_timeout_s))
        except CommandTimedOut as error:
            raise SubmissionDoubtful(str(error)) from error
        return self._line.read_submission(argv, done, parse_submitted(done.stdout_text))

    async def while_up(self, submission: Coroutine[Any, Any, T]) -> T:
        """Wait for a submission; if it takes long because no controller listens, not to the end.

        Raises:
            BackendUnreachable: There is no controller, so there is no job; *submission* is cancelled.
        """
        running = asyncio.create_task(submission)
        try:
            await asyncio.wait({running}, timeout=_SUSPICIOUS_AFTER_S)
            if not running.done() and await self._is_surely_down():
                raise BackendUnreachable(_DOWN)
            return await running
        finally:  # not left behind, whatever happened above
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled():
                running.exception()  # has been raised above, or no longer matters

    async def jobs(self, *, user: Transport | None = None) -> list[JobRow]:
        asking = user or self._own
        return await self._listing.jobs(lambda argv: self._line.ask(asking, argv))

    async def accounted(self, job_ids: Collection[SlurmJobId]) -> Mapping[SlurmJobId, JobRow]:
        if not job_ids or time.monotonic() < self._no_accounting_until:
            return {}
        if await self._line.programs.find("sacct") is None:
            return {}
        if self._accounting_error is not None and time.monotonic() < self._accounting_again_at:
            raise self._accounting_error  # each try may take long, and holds up the watch
        try:
            rows = parse_accounting(await self._line.ask(self._own, commands.account(job_ids)))
        except BackendError as error:
            if isinstance(error, BackendRefused) and _NO_ACCOUNTING.search(error.stderr):
                log.info("there is no accounting: %s", error.stderr)
                self._no_accounting_until = time.monotonic() + _NO_ACCOUNTING_FOR_S
                return {}
            self._accounting_error = error
            self._accounting_again_at = time.monotonic() + _ACCOUNTING_AGAIN_S
            raise
        self._accounting_error = None
        return rows

    async def cancel(
        self, job_ids: Collection[SlurmJobId], *, user: Transport, signal: str | None = None
    ) -> None:
        if not job_ids:
            return
        argv = commands.cancel(job_ids, signal=signal)
        done = await self._line.run(user, argv)
        # A job that is over is an error for some releases and silence for others; what became of
        # the jobs is seen when they are looked at next.
        lines = [
            line
            for line in done.stderr_text.splitlines()
            if line.strip() and not re.search(r"Invalid job id|already completing", line)
        ]
        if done.exit_status != 0 and lines:
            raise self._line.error_of(argv, done)

    async def cluster(self) -> ClusterRows:
        columns = Columns.of(NODE_FIELDS)
        nodes = await self._line.ask(self._own, commands.list_nodes(columns))
        partitions = await self._line.ask(self._own, commands.show_partitions())
        rows = parse_partitions(partitions)
        order = [row.name for row in rows]
        return ClusterRows(
            partitions=tuple(rows),
            nodes=tuple(_read(lambda: parse_nodes(columns, nodes, order))),
        )

    async def config(self) -> str:
        """Return the controller's settings as scontrol prints them."""
        return await self._line.ask(self._own, commands.show_config())

    async def _is_surely_down(self) -> bool:
        try:
            done = await self._line.run(self._own, commands.ping(), _PING_TIMEOUT_S)
        except LauncherError:  # it may only be slow
            return False
        return " is DOWN" in done.stdout_text and " is UP" not in done.stdout_text


def _read(parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ValueError as error:
        raise BackendUnreadable(f"Slurm's answer cannot be read: {error}") from error
