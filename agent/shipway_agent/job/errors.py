"""What keeps a job from starting its task.

AgentError
└── JobError              the task cannot be started here; whoever starts the job must act
    ├── TaskFileError     the task file is missing, unsafe or not as it must be
    └── StaleJob          Slurm started the job once more, but its tokens are of the first time
"""

from __future__ import annotations

from shipway_agent.errors import AgentError


class JobError(AgentError):
    """The job cannot run its task; the text says why and what to do."""


class TaskFileError(JobError):
    """The task file cannot be used; the text lists each mistake with its key."""


class StaleJob(JobError):
    """The job was requeued by somebody else than the launcher."""
