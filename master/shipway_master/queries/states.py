"""What the API shows as the state of an experiment or a trial, as expressions of the database.

Stored is never more than ACTIVE for what lives; the runs tell how far it has come. Whatever runs
elsewhere (unmanaged) waits for nothing here and is shown as running.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, case, func, literal, select

from shipway_master.allocations.life import AllocationState
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow
from shipway_master.store.tasks import AllocationRow

ACTIVE: Final = "ACTIVE"
FINAL_STATES: Final = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
"""Those after which nothing more comes of a trial, or of an experiment."""
_QUEUED, _RUNNING = "QUEUED", "RUNNING"
_progress: Final = {
    AllocationState.PULLING: 1,
    AllocationState.STARTING: 2,
    AllocationState.RUNNING: 3,
    AllocationState.WAITING: 3,
    AllocationState.TERMINATING: 3,
}


def shown_trial_state() -> ColumnElement[str]:
    """The state of a row of trials, which must be joined with its experiment."""
    furthest = _furthest().where(TrialTaskRow.trial_id == TrialRow.id)
    return _refined(TrialRow.state, furthest.correlate(TrialRow))


def shown_experiment_state() -> ColumnElement[str]:
    """The state of a row of experiments: of its runs, the one counts that has come furthest."""
    trial = TrialRow.__table__.alias("its_trials")
    furthest = (
        _furthest()
        .join(trial, trial.c.id == TrialTaskRow.trial_id)
        .where(trial.c.experiment_id == ExperimentRow.id)
    )
    return _refined(ExperimentRow.state, furthest.correlate(ExperimentRow))


def _furthest() -> Select[tuple[int]]:
    return (
        select(func.max(case(_progress, value=AllocationRow.state, else_=0)))
        .select_from(TrialTaskRow)
        .join(AllocationRow, AllocationRow.task_id == TrialTaskRow.task_id)
        .where(AllocationRow.ended_at.is_(None))
    )


def _refined(stored: SQLColumnExpression[str], furthest: Select[tuple[int]]) -> ColumnElement[str]:
    names = {0: _QUEUED, 1: "PULLING", 2: "STARTING", 3: _RUNNING}
    return case(
        (stored != ACTIVE, stored),
        (ExperimentRow.unmanaged, literal(_RUNNING)),
        else_=case(names, value=furthest.scalar_subquery(), else_=literal(_QUEUED)),
    )
