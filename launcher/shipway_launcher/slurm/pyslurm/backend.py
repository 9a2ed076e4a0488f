"""Slurm through pyslurm where that gives the same jobs for less, else by the command line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from shipway_launcher.commandline import Failure
from shipway_launcher.errors import (
    BackendRefused,
    BackendUnreachable,
    LauncherError,
    SubmissionDoubtful,
)
from shipway_launcher.slurm import commands
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.slurm.cli import CommandLineSlurm
from shipway_launcher.slurm.parse import classify_failure
from shipway_launcher.slurm.pyslurm.description import NeedsSbatch, describe
from shipway_launcher.slurm.pyslurm.directives import parse_directives
from shipway_launcher.slurm.pyslurm.guard import GuardedHelper, PyslurmChoice
from shipway_launcher.slurm.pyslurm.process import Answer, HelperLost
from shipway_launcher.slurm.rows import ClusterRows, JobRow, SlurmJobId
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.local import LocalTransport

log = logging.getLogger(__name__)

_LARGEST_SCRIPT = 1 << 20


class PyslurmSlurm:
    """The cluster of this machine: its own user's jobs are submitted and cancelled through pyslurm.

    What pyslurm cannot do just as the commands, they do: other users' jobs, options that it does not
    carry over, all questions (its listings leave out, or mix up, what the watch decides on). When
    it cannot be used at all, or its helper has died too often, one warning says so.
    """

    def __init__(
        self,
        commands_: CommandLineSlurm,
        own: LocalTransport,
        choice: PyslurmChoice,
        *,
        submit_timeout_s: float,
    ) -> None:
        """Make the backend; nothing is run yet.

        Args:
            commands_: The same cluster by its command line.
            own: Whose jobs pyslurm can submit.
            choice: Which pyslurm.
            submit_timeout_s: How long an answer to a submission is waited for.
        """
        self._commands, self._own = commands_, own
        self._submit_timeout_s = submit_timeout_s
        self._helper = GuardedHelper(choice, own.environment, commands_.config)

    @property
    def is_used(self) -> bool:
        """Whether there is a pyslurm that the last submission went through, as far as it could."""
        return self._helper.is_running

    async def why_not(self) -> str | None:
        """Look for a pyslurm that fits, and say why there is none; None: there is one."""
        return None if await self._helper.is_ready() else self._helper.reason

    async def facts(self) -> SlurmFacts:
        return await self._commands.facts()

    async def submit(self, script: Path, *, user: Transport) -> SlurmJobId:
        if self._can_act_as(user):
            job_id = await self._submit(script)
            if job_id is not None:
                return job_id
        return await self._commands.submit(script, user=user)

    async def jobs(self, *, user: Transport | None = None) -> list[JobRow]:
        return await self._commands.jobs(user=user)

    async def accounted(self, job_ids: Collection[SlurmJobId]) -> Mapping[SlurmJobId, JobRow]:
        return await self._commands.accounted(job_ids)

    async def cancel(
        self, job_ids: Collection[SlurmJobId], *, user: Transport, signal: str | None = None
    ) -> None:
        # Parts of arrays and of other jobs have ids that are no numbers, whatever int() says.
        is_plain = all(job_id.isascii() and job_id.isdecimal() for job_id in job_ids)
        if job_ids and is_plain and signal is None and self._can_act_as(user):
            request = {"do": "cancel", "ids": sorted(job_ids)}
            with contextlib.suppress(HelperLost):  # cancelling twice is harmless
                answer = await self._helper.ask(request, self._submit_timeout_s)
                if answer is not None and not answer.keys() & {"refused", "unable"}:
                    return
        await self._commands.cancel(job_ids, user=user, signal=signal)

    async def cluster(self) -> ClusterRows:
        return await self._commands.cluster()

    async def aclose(self) -> None:
        await self._helper.aclose()

    def _can_act_as(self, user: Transport) -> bool:
        return not self._helper.is_given_up and user.user == self._own.user

    async def _submit(self, script: Path) -> SlurmJobId | None:
        """Submit through pyslurm; None: it has done nothing, and sbatch is to do it."""
        request = await self._describe(script)
        if request is None:
            return None
        try:
            asking = self._helper.ask(request, self._submit_timeout_s)
            answer = await self._commands.while_up(asking)
        except HelperLost as error:
            raise SubmissionDoubtful(f"pyslurm gave no answer to a submission: {error}") from error
        if answer is None:
            return None
        if "unable" in answer:  # raised before anything was sent
            log.info("pyslurm cannot submit a job: %s", answer["unable"])
            return None
        if "refused" in answer:
            raise _error_of(script, answer)
        return SlurmJobId(str(answer["id"]))

    async def _describe(self, script: Path) -> dict[str, object] | None:
        if not await self._helper.is_ready():
            return None
        content = await self._own.read(script, offset=0, limit=_LARGEST_SCRIPT)
        try:
            options = parse_directives(content.decode())
            if options is None:
                raise NeedsSbatch("a directive that the launcher has not written")
            described = describe(options, version=self._helper.version)
        except (NeedsSbatch, UnicodeDecodeError) as error:
            log.debug("a job for sbatch: %s", error)
            return None
        return {
            "do": "submit",
            "script": str(script),
            "fields": dict(described.fields),
            "environment": {**self._own.environment, **described.variables},
        }


def _error_of(script: Path, answer: Answer) -> LauncherError:
    """Turn a refusal into what sbatch's would be, in sbatch's words, which the master looks for."""
    text = str(answer["refused"])
    match classify_failure(text):
        case Failure.UNREACHED:
            return BackendUnreachable(text)
        case Failure.NO_ANSWER:
            return SubmissionDoubtful(text)
        case Failure.REFUSED:
            said = [
                f"sbatch: error: {line.partition('error: ')[2]}"
                for line in str(answer["said"]).splitlines()
                if "error: " in line
            ]
            words = f"sbatch: error: Batch job submission failed: {text}"
            return BackendRefused(
                commands.submit(str(script)), exit_status=1, stderr="\n".join([*said, words])
            )
