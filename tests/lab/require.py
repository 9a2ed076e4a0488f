"""What a test does when a service of the lab cannot be had."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest


def require(service: str, missing: Sequence[str], *, hint: str = "run `make test` as root") -> None:
    """Skip the test, saying why, when something is *missing*; in CI (CI=true) fail it."""
    if not missing:
        return
    reason = f"{service} needs {', '.join(missing)}, which this machine does not have; {hint}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
