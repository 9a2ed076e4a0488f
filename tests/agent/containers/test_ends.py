from __future__ import annotations

import pytest

from shipway_agent.containers.ends import failure_of_exit, failure_of_launch
from shipway_agent.errors import (
    AgentError,
    ImageNotFound,
    LaunchRefused,
    PullFailed,
    RuntimeUnavailable,
    SpecUnsupported,
    StartRefused,
)
from shipway_agent.master.messages import Failure, FailureType
from shipway_agent.runtimes.spec import Exit

FAILED = "container failed with non-zero exit code"


def failed(code: int, more: str = "") -> Failure:
    return Failure(
        type=FailureType.CONTAINER_FAILED, message=f"{FAILED}: {code}{more}", exit_code=code
    )


@pytest.mark.parametrize(
    ("ended", "failure"),
    [
        (Exit(code=0), None),
        (Exit(code=7), failed(7)),
        (Exit(code=137, signal=9), failed(137)),
        (Exit(code=None, signal=15), failed(143)),
        (Exit(code=137, out_of_memory=True), failed(137, " (out of memory)")),
        (Exit(code=1, reason="its shim died"), failed(1, " (its shim died)")),
        # A child of the task was out of memory; the task itself coped.
        (Exit(code=0, out_of_memory=True), None),
    ],
)
def test_what_an_exit_means(ended: Exit, failure: Failure | None) -> None:
    assert failure_of_exit(ended) == failure


def test_an_exit_nobody_knows_is_no_success() -> None:
    failure = failure_of_exit(Exit(code=None, reason="the machine was restarted"))
    assert failure is not None
    assert failure.type is FailureType.TASK_ERROR
    assert failure.exit_code is None
    assert "the machine was restarted" in failure.message


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeUnavailable("no socket"), FailureType.AGENT_ERROR),
        (StartRefused("no device"), FailureType.AGENT_ERROR),
        (ImageNotFound("no image"), FailureType.TASK_ERROR),
        (PullFailed("disk full"), FailureType.TASK_ERROR),
        (LaunchRefused("no program"), FailureType.TASK_ERROR),
        (SpecUnsupported("no shm"), FailureType.TASK_ERROR),
    ],
)
def test_whose_fault_a_failed_launch_is(error: AgentError, kind: FailureType) -> None:
    failure = failure_of_launch(error, "creating container")
    assert failure.type is kind
    assert failure.message == f"creating container: {error}"
