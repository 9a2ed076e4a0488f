"""What can go wrong with a launcher.

LauncherError
├── LauncherUnreachable        no connection, no answer: ask again later
├── LauncherRefused            it answered, and the answer is no
│   ├── TokenRefused           401 or 403: the token has changed
│   └── DispatchNotFound       404: it does not know the dispatch
└── LauncherUnreadable         it answered in a form that we cannot read
"""

from __future__ import annotations


class LauncherError(Exception):
    """Something between us and the launcher."""


class LauncherUnreachable(LauncherError):
    """No answer; a request that was sent may have been carried out all the same."""

    def __init__(self, text: str, *, may_have_arrived: bool) -> None:
        super().__init__(text)
        self.may_have_arrived = may_have_arrived


class LauncherRefused(LauncherError):
    """The launcher said no."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


class TokenRefused(LauncherRefused):
    """The launcher does not take our token."""


class DispatchNotFound(LauncherRefused):
    """The launcher has no such dispatch."""


class LauncherUnreadable(LauncherError):
    """The answer makes no sense to us; what was asked for may have been done."""
