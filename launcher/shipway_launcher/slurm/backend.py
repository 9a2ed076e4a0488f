"""What the launcher wants from Slurm, by whatever way it is reached."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from shipway_launcher.slurm.rows import ClusterRows, JobRow, SlurmJobId
from shipway_launcher.slurm.version import SlurmVersion
from shipway_launcher.transport.base import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmFacts:
    """What is worth knowing of this Slurm before a script is written for it."""

    version: SlurmVersion | None
    mpi_plugins: frozenset[str]
    release: str | None = None
    """Name and release of another workload manager."""


@runtime_checkable
class Closes(Protocol):
    """A backend that has something to end."""

    async def aclose(self) -> None:
        """End what was started for it."""
        ...


class SlurmBackend(Protocol):
    """One Slurm cluster. Every method may raise `BackendError` or `TransportError`."""

    async def facts(self) -> SlurmFacts:
        """Return what kind of Slurm this is; asked once in a while and remembered."""
        ...

    async def submit(self, script: Path, *, user: Transport) -> SlurmJobId:
        """Submit the script as its owner.

        Raises:
            BackendRefused: Slurm does not want this job; there is none.
            BackendUnreachable: The controller has not got it; there is no job.
            SubmissionDoubtful: There may be a job or not.
        """
        ...

    async def jobs(self, *, user: Transport | None = None) -> list[JobRow]:
        """Return all jobs of everybody that the controller knows, in one question.

        Args:
            user: Who asks, where a site shows each user only his own jobs; by default the
                launcher's own user.
        """
        ...

    async def accounted(self, job_ids: Collection[SlurmJobId]) -> Mapping[SlurmJobId, JobRow]:
        """Ask the accounting database in one question; what it does not know is left out.

        A cluster without accounting knows nothing; one whose accounting does not answer is an
        error.
        """
        ...

    async def cancel(
        self, job_ids: Collection[SlurmJobId], *, user: Transport, signal: str | None = None
    ) -> None:
        """Cancel jobs, or send their steps a *signal*; those that are over are no error."""
        ...

    async def cluster(self) -> ClusterRows:
        """Return all partitions and nodes."""
        ...
