"""Run a workload manager's commands, and find out what their answers mean."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.errors import (
    BackendError,
    BackendRefused,
    BackendUnreachable,
    CommandTimedOut,
    SubmissionDoubtful,
    TransportError,
)
from shipway_launcher.slurm.rows import SlurmJobId
from shipway_launcher.transport.base import Command, Completed, Transport


class Failure(enum.Enum):
    """What the failure of a command means."""

    REFUSED = enum.auto()
    UNREACHED = enum.auto()
    """The workload manager has not got the message."""
    NO_ANSWER = enum.auto()
    """It may have got the message."""


class Programs:
    """Where a workload manager's commands are."""

    def __init__(
        self,
        bin_dir: Path | None,
        path: str,
        look: Callable[[str, str], Awaitable[str | None]],
    ) -> None:
        """Look in *bin_dir* if it is given, else in *path*.

        Args:
            bin_dir: A folder.
            path: Folders with colons between.
            look: Finds a program in such a list, on the machine that the commands run on.
        """
        self.path = str(bin_dir) if bin_dir else path
        self._look = look
        self._found: dict[str, str] = {}

    async def find(self, name: str) -> str | None:
        """Return the full path of a command, None if there is none."""
        if name not in self._found and (found := await self._look(name, self.path)):
            self._found[name] = found
        return self._found.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """The commands of one workload manager."""

    programs: Programs
    submits: str
    """The command that makes a job; it alone must not be run twice."""
    cancels: frozenset[str]
    """The commands that end or signal jobs."""
    query_environment: Mapping[str, str]
    """For all others only: a job would get it from the command that makes it."""
    query_timeout_s: float
    classify: Callable[[str], Failure]
    """Says what a failed command's words mean."""

    async def run(
        self, user: Transport, argv: Sequence[str], timeout_s: float | None = None
    ) -> Completed:
        """Run a command as *user*, by default for as long as a question may take.

        Raises:
            TransportError: It cannot be run, or gave no answer in time.
        """
        name, *arguments = argv
        program = await self.programs.find(name)
        if program is None:
            raise TransportError(f"cannot run {name}: it is not in {self.programs.path}")
        is_question = name != self.submits and name not in self.cancels
        return await user.run(
            Command(
                argv=(program, *arguments),
                timeout_s=self.query_timeout_s if timeout_s is None else timeout_s,
                environment=self.query_environment if is_question else {},
                is_repeatable=name != self.submits,
            )
        )

    async def question(self, user: Transport, argv: Sequence[str]) -> Completed:
        """Run a command that only asks.

        Raises:
            BackendUnreachable: It gave no answer in time.
            TransportError: It cannot be run.
        """
        try:
            return await self.run(user, argv)
        except CommandTimedOut as error:
            raise BackendUnreachable(str(error)) from error

    async def ask(self, user: Transport, argv: Sequence[str]) -> str:
        """Return what a command printed that only asks.

        Raises:
            BackendError: It failed.
            TransportError: It cannot be run.
        """
        done = await self.question(user, argv)
        if done.exit_status != 0:
            raise self.error_of(argv, done)
        return done.stdout_text

    def error_of(self, argv: Sequence[str], done: Completed) -> BackendError:
        """Make an error of a command that failed."""
        said = (done.stderr_text.strip() or done.stdout_text.strip())[-2000:]
        if done.exit_status > 0 and self.classify(said) is Failure.REFUSED:
            return BackendRefused(argv, exit_status=done.exit_status, stderr=said)
        return BackendUnreachable(said or f"{argv[0]} exited {done.exit_status}")

    def read_submission(
        self, argv: Sequence[str], done: Completed, job_id: SlurmJobId | None
    ) -> SlurmJobId:
        """Judge how the command ended that makes a job, and which id it printed, if any.

        Raises:
            BackendRefused: There is no job.
            BackendUnreachable: The same, because nobody was reached.
            SubmissionDoubtful: There may be one.
        """
        if done.exit_status == 0 and job_id is not None:
            return job_id
        said = (done.stderr_text or done.stdout_text).strip()
        if done.exit_status <= 0 or job_id is not None:
            raise SubmissionDoubtful(
                f"{argv[0]} exited {done.exit_status} without a clear id: {said}"
            )
        match self.classify(said):
            case Failure.REFUSED:
                raise BackendRefused(argv, exit_status=done.exit_status, stderr=said)
            case Failure.UNREACHED:
                raise BackendUnreachable(said)
            case Failure.NO_ANSWER:
                raise SubmissionDoubtful(said)
