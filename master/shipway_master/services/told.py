"""Errors of the lower layers, as callers of the API are told them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from shipway_master.agents.switches import AgentNotFound, AgentNotReady, SlotNotFound
from shipway_master.allocations.errors import (
    AllocationEnded,
    AllocationError,
    AllocationNotFound,
    CallSuperseded,
    InvalidCall,
    UnknownResources,
)
from shipway_master.allocations.ids import MalformedAllocationId
from shipway_master.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from shipway_master.experiments.errors import (
    BadExperiment,
    ExperimentInWrongState,
    ExperimentNotFound,
    TrialNotFound,
)
from shipway_master.tasks.errors import BadTask, TaskInWrongState, TaskNotFound


class _NotFoundText(NotFound):
    """A thing that is not there, in words of its own."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)


@contextmanager
def told() -> Generator[None]:
    """Turn what the block raises into the errors of the API."""
    try:
        yield
    except (AllocationNotFound, UnknownResources, SlotNotFound) as error:
        raise _NotFoundText(str(error)) from error
    except TaskNotFound as error:
        raise NotFound(error.kind, error.task_id) from error
    except ExperimentNotFound as error:
        raise NotFound("experiment", error.experiment_id) from error
    except TrialNotFound as error:
        raise NotFound("trial", error.trial_id) from error
    except AgentNotFound as error:
        raise NotFound("agent", error) from error
    except (MalformedAllocationId, InvalidCall, BadTask, BadExperiment) as error:
        raise InvalidArgument(str(error)) from error
    except (CallSuperseded, AllocationEnded) as error:
        raise Aborted(str(error)) from error
    except (AllocationError, TaskInWrongState, ExperimentInWrongState) as error:
        raise FailedPrecondition(str(error)) from error
    except AgentNotReady as error:
        raise FailedPrecondition(f"agent '{error}' has not started yet") from error
