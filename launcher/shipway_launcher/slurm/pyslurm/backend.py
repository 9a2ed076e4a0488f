"""Slurm through pyslurm where that gives the same jobs for less, else by the command line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.errors import (
    BackendRefused,
    BackendUnreachable,
    LauncherError,
    SubmissionDoubtful,
)
from shipway_launcher.slurm import commands
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.slurm.cli import CommandLineSlurm
from shipway_launcher.slurm.parse import Failure, classify_failure
from shipway_launcher.slurm.pyslurm.description import NeedsSbatch, describe
from shipway_launcher.slurm.pyslurm.directives import parse_directives
from shipway_launcher.slurm.pyslurm.process import Answer, Helper, HelperLost, HelperUnusable
from shipway_launcher.slurm.pyslurm.site import parse_config, why_sbatch
from shipway_launcher.slurm.rows import ClusterRows, JobRow, SlurmJobId
from shipway_launcher.slurm.version import SlurmVersion, parse_version
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.local import LocalTransport

log = logging.getLogger(__name__)

_START_LIMIT_S = 30.0
_BUSY_S = 1.0
_CHECKED_FOR_S = 600.0
_CHECK_AGAIN_S = 60.0
_LIVES = 3
_LIVES_IN_S = 3600.0
_LARGEST_SCRIPT = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PyslurmChoice:
    """Where pyslurm is and how much it is wanted."""

    python: str
    is_wanted: bool
    """Whether somebody has asked for it, and so wants to hear that there is none."""


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
        self._commands, self._own, self._choice = commands_, own, choice
        self._submit_timeout_s = submit_timeout_s
        self._lock = asyncio.Lock()
        self._helper: Helper | None = None
        self._is_given_up, self._reason = False, ""
        self._version: SlurmVersion | None = None
        self._checked_until = self._check_again_at = 0.0
        self._deaths: list[float] = []

    @property
    def is_used(self) -> bool:
        """Whether there is a pyslurm that the last submission went through, as far as it could."""
        return self._helper is not None

    async def why_not(self) -> str | None:
        """Look for a pyslurm that fits, and say why there is none; None: there is one."""
        return None if await self._is_ready() else self._reason

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
                answer = await self._ask(request, self._submit_timeout_s)
                if answer is not None and not answer.keys() & {"refused", "unable"}:
                    return
        await self._commands.cancel(job_ids, user=user, signal=signal)

    async def cluster(self) -> ClusterRows:
        return await self._commands.cluster()

    async def aclose(self) -> None:
        async with self._lock:
            await self._drop()

    def _can_act_as(self, user: Transport) -> bool:
        return not self._is_given_up and user.user == self._own.user

    async def _submit(self, script: Path) -> SlurmJobId | None:
        """Submit through pyslurm; None: it has done nothing, and sbatch is to do it."""
        request = await self._describe(script)
        if request is None:
            return None
        try:
            answer = await self._ask(request, self._submit_timeout_s)
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
        if not await self._is_ready():
            return None
        content = await self._own.read(script, offset=0, limit=_LARGEST_SCRIPT)
        try:
            options = parse_directives(content.decode())
            if options is None:
                raise NeedsSbatch("a directive that the launcher has not written")
            described = describe(options, version=self._version)
        except (NeedsSbatch, UnicodeDecodeError) as error:
            log.debug("a job for sbatch: %s", error)
            return None
        return {
            "do": "submit",
            "script": str(script),
            "fields": dict(described.fields),
            "environment": {**self._own.environment, **described.variables},
        }

    async def _ask(self, request: Mapping[str, object], limit_s: float) -> Answer | None:
        """Ask the helper; None: it was not asked, because there is none or it is busy for long.

        Raises:
            HelperLost: It was asked and has not answered.
        """
        try:
            async with asyncio.timeout(_BUSY_S if self._helper is not None else None):
                await self._lock.acquire()
        except TimeoutError:
            log.debug("pyslurm's helper is busy; a job for sbatch")
            return None
        try:
            helper = await self._usable()
            return None if helper is None else await self._call(helper, request, limit_s)
        finally:
            self._lock.release()

    async def _is_ready(self) -> bool:
        """See whether there is a helper, and start one otherwise."""
        if self._helper is not None and time.monotonic() < self._checked_until:
            return True
        async with self._lock:
            return await self._usable() is not None

    async def _call(
        self, helper: Helper, request: Mapping[str, object], limit_s: float
    ) -> Answer | None:
        is_answered = False
        try:
            answer = await helper.call(request, limit_s)
            is_answered = True
        except ValueError as error:
            is_answered = True
            log.debug("a job for sbatch: %s", error)
            return None
        except HelperLost as error:
            self._note_death(str(error))
            raise
        else:
            return answer
        finally:
            if not is_answered:  # its answer to this call must not be taken for that to another
                await self._drop()

    async def _usable(self) -> Helper | None:
        """Return a helper that has told its version and fits; None: there is none to be had."""
        if self._is_given_up:
            return None
        if time.monotonic() > self._checked_until and not await self._check_site():
            return None
        if self._helper is None:
            helper = None
            try:
                helper = Helper(self._choice.python, self._own.environment)
                hello = await helper.hello(_START_LIMIT_S)
                self._compare(hello.version)
            except HelperUnusable as error:
                if helper is not None:
                    await helper.end()
                self._give_up(str(error), is_missing="No module named" in str(error))
                return None
            except BaseException:
                if helper is not None:
                    await helper.end()
                raise
            self._helper = helper
            log.info(
                "jobs are submitted through pyslurm",
                extra={"pyslurm": hello.version, "interface": hello.interface},
            )
        return self._helper

    async def _check_site(self) -> bool:
        """See whether this site's jobs can do without sbatch; False as long as nobody knows."""
        if time.monotonic() < self._check_again_at:
            return False
        try:
            stdout = await self._commands.config()
        except LauncherError as error:
            self._reason = f"no answer about Slurm's configuration: {error}"
            log.info("pyslurm is not used for now: %s", self._reason)
            self._check_again_at = time.monotonic() + _CHECK_AGAIN_S
            return False
        config = parse_config(stdout)
        self._version = parse_version(f"slurm {config.get('SLURM_VERSION', '')}")
        if reason := await asyncio.to_thread(why_sbatch, config):
            await self._drop()
            self._give_up(reason)
            return False
        self._checked_until = time.monotonic() + _CHECKED_FOR_S
        return True

    def _compare(self, version: str) -> None:
        """Take only the release that this pyslurm is made for: the structures differ by release."""
        ours = parse_version(f"slurm {version}.0" if version.count(".") < 2 else f"slurm {version}")
        if ours is None or self._version is None or ours[:2] != self._version[:2]:
            raise HelperUnusable(f"pyslurm {version} is not for Slurm {self._version}")

    def _note_death(self, cause: str) -> None:
        now = time.monotonic()
        self._deaths = [at for at in self._deaths if now - at < _LIVES_IN_S] + [now]
        if len(self._deaths) >= _LIVES:
            self._give_up(f"its helper was lost {_LIVES} times, the last time: {cause}")
        else:
            log.info("the helper of pyslurm was lost, another will be started: %s", cause)

    def _give_up(self, reason: str, *, is_missing: bool = False) -> None:
        self._is_given_up, self._reason = True, reason
        level = logging.INFO if is_missing and not self._choice.is_wanted else logging.WARNING
        log.log(level, "pyslurm is not used, jobs are submitted by sbatch: %s", reason)

    async def _drop(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None:
            await helper.end()


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
