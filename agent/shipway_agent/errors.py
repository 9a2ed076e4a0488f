"""What can go wrong in the agent, one class per reaction.

AgentError
└── ContainerRuntimeError          anything a container runtime answered or did not answer
    ├── RuntimeUnavailable         nothing answered: no socket, no program, no right; retryable
    ├── RuntimeRefused             it answered, and the answer is no
    ├── UnreadableAnswer           it answered in a form we cannot read
    ├── SpecUnsupported            this runtime cannot do what the container asks for, ever
    ├── ImageNotFound              no such image, or no right to see it
    ├── PullFailed                 the image exists, but did not arrive; retryable
    ├── LaunchRefused              the runtime could not start the program; not the task's failure
    └── ContainerNotFound          no container of that identity
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of all errors of the agent that it raises on purpose."""

    retryable: bool = False
    """Whether the same call may work later without anybody changing anything."""


class ContainerRuntimeError(AgentError):
    """A container runtime did not do what it was asked."""


class RuntimeUnavailable(ContainerRuntimeError):
    """The runtime cannot be reached; says what was tried and what to do."""

    retryable = True


class RuntimeRefused(ContainerRuntimeError):
    """The runtime answered with an error that no other class here describes."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of an engine, or exit status of a command."""


class UnreadableAnswer(ContainerRuntimeError):
    """The runtime answered in a form this code does not know; the text shows its beginning."""


class SpecUnsupported(ContainerRuntimeError):
    """The container asks for something that this runtime cannot give; names the setting."""


class ImageNotFound(ContainerRuntimeError):
    """There is no such image in the registry or on the host, or the registry hides it."""


class PullFailed(ContainerRuntimeError):
    """Fetching the image failed; the text is the registry's or the engine's own."""

    retryable = True


class LaunchRefused(ContainerRuntimeError):
    """The container was made, but its program could not be started.

    The task never ran, so this is no exit of the task.
    """

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """What a shell would say: 127 no such program, 126 not executable; None if unclear."""


class ContainerNotFound(ContainerRuntimeError):
    """The runtime knows no container of that identity (any more)."""
