"""What can go wrong in the agent, one class per reaction.

AgentError
├── ContainerRuntimeError          anything a container runtime answered or did not answer
│   ├── RuntimeUnavailable         nothing answered: no socket, no program, no right; retryable
│   ├── RuntimeRefused             it answered, and the answer is no
│   ├── UnreadableAnswer           it answered in a form we cannot read
│   ├── SpecUnsupported            this runtime cannot do what the container asks for, ever
│   ├── ImageNotFound              no such image, or no right to see it
│   ├── PullFailed                 the image exists, but did not arrive; retryable
│   ├── LaunchRefused              the runtime could not start the program; not the task's failure
│   └── ContainerNotFound          no container of that identity
├── MasterError                    anything between agent and master
│   ├── MasterUnreachable          no connection, or it broke; retryable
│   ├── MasterRefused              it answered the dial with an error; retryable
│   ├── MustRestart                it does not know this agent any more, which must begin anew
│   └── UnreadableMessage          it sent what we cannot read
├── StateFolderTaken               another agent works in the state folder
├── StateFolderUnusable            the state folder cannot be made or written
├── SettingsUnreadable             the settings file is not there or cannot be read
├── SlotsUnknown                   what devices this machine has cannot be told
└── StartRefused                   an order to start a container cannot be carried out
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


class MasterError(AgentError):
    """The master was not reached, or it and the agent do not understand each other."""


class MasterUnreachable(MasterError):
    """There is no connection to the master, or the one there was is dead."""

    retryable = True


class MasterRefused(MasterError):
    """The master answered the dial, but not with a websocket."""

    retryable = True

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status of the answer."""


class MustRestart(MasterError):
    """The master gave this agent up; it must detect its devices and register anew."""

    def __init__(self, message: str, *, record_may_linger: bool) -> None:
        super().__init__(message)
        self.record_may_linger = record_may_linger
        """Whether the master just ended a connection of ours.

        Such a master may still hold a timer that later removes whoever has our id by then.
        """


class UnreadableMessage(MasterError):
    """A message is no JSON, of no known kind, or has a member of the wrong type; names it."""


class StateFolderTaken(AgentError):
    """Another agent works in the state folder; names it."""

    retryable = True


class StateFolderUnusable(AgentError):
    """The state folder cannot be made or written; names it and says why."""


class SettingsUnreadable(AgentError):
    """The settings file that was named is not there (yet), or cannot be read; names it."""

    retryable = True


class SlotsUnknown(AgentError):
    """The devices of this machine cannot be told; says why and what to do."""


class StartRefused(AgentError):
    """A container cannot be started as ordered; the text goes to the master."""
