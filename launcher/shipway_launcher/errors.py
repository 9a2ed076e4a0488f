"""What can go wrong in the launcher, one class for each way to react.

LauncherError
├── WrongRequest          the client must ask for something else
├── TooLarge              the body, or what is packed in it, is over the limit
├── NotFound              there is no such dispatch or log
├── NotAllowed            the token is wrong
├── Forbidden             the token is right, and not for this
├── TooMany               the caller asks more often than it may
├── TooSlow               the body did not arrive in time
├── LaunchFailed          there is no job; the text is made for the master's task log
├── SetupError            the launcher cannot run with these settings on this machine
├── StorageError          the launcher's own records cannot be read or written
├── TransportError        a program could not be run, or a file not be moved
│   └── CommandTimedOut   it may have done its work nevertheless
│       └── LinkLost      the same, because the link to its machine ended
└── BackendError          the workload manager
    ├── BackendRefused    it answered, and the answer is no
    ├── BackendUnreachable  it did not answer; the question may be asked again
    ├── BackendUnreadable   it answered in a form that we do not know
    └── SubmissionDoubtful  a job may have been made or not; look before repeating
"""

from __future__ import annotations

from collections.abc import Sequence


class LauncherError(Exception):
    """Base of all errors of the launcher; the text says what was tried and what to change."""


class WrongRequest(LauncherError):
    """The client asked for something that cannot be; nothing was done."""


class TooLarge(LauncherError):
    """A body, or what is packed in it, is over its limit."""


class NotFound(LauncherError):
    """There is no dispatch or log of this name for this owner."""


class NotAllowed(LauncherError):
    """The request carries no token or a wrong one."""


class Forbidden(LauncherError):
    """Who calls is known, and may not do this."""


class TooMany(LauncherError):
    """The caller has to wait before it asks again."""

    def __init__(self, text: str, *, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class TooSlow(LauncherError):
    """The body of the request did not arrive in time."""


class LaunchFailed(LauncherError):
    """There is no job; the text is in the form in which the master finds what sbatch said."""


class SetupError(LauncherError):
    """The launcher cannot run with these settings on this machine."""


class StorageError(LauncherError):
    """The launcher's own records cannot be read or written."""


class TransportError(LauncherError):
    """A program could not be run or a file not be moved."""


class CommandTimedOut(TransportError):
    """A program did not end in time and was stopped; what it had to do may be done."""

    def __init__(self, argv: Sequence[str], timeout_s: float) -> None:
        super().__init__(f"{argv[0]} gave no answer within {timeout_s:g} s")
        self.argv, self.timeout_s = tuple(argv), timeout_s


class LinkLost(CommandTimedOut):
    """The link to a machine ended while something was done there; it may be done or not."""

    def __init__(self, text: str) -> None:
        super().__init__(("ssh",), 0)
        self.args = (text,)


class BackendError(LauncherError):
    """The workload manager did not do what it was asked."""


class BackendRefused(BackendError):
    """The workload manager answered, and the answer is no."""

    def __init__(self, argv: Sequence[str], *, exit_status: int, stderr: str) -> None:
        super().__init__(f"{argv[0]} exited {exit_status}: {stderr.strip()[-2000:]}")
        self.argv, self.exit_status, self.stderr = tuple(argv), exit_status, stderr


class BackendUnreachable(BackendError):
    """The workload manager did not answer; the same question may be asked again."""


class BackendUnreadable(BackendError):
    """The workload manager answered in a form that we do not know."""


class SubmissionDoubtful(BackendError):
    """A job may have been made or not."""
