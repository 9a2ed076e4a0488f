"""How many files and connections this process may have open."""

from __future__ import annotations

import resource


def allow_many_connections() -> None:
    """Take as many open files as this process may have: a large job has thousands of ranks."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
