"""Statements that look for experiments and for runs by filter and sort texts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from shipway_master.queries.columns import BEST_TRIAL
from shipway_master.queries.conditions import EXPERIMENTS, RUNS, compile_filter
from shipway_master.queries.filters import parse_filter
from shipway_master.queries.sorting import compile_sort
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow

Found = Select[*tuple[Any, ...]]


def select_experiments(*entities: Any) -> Found:
    """Begin a statement about experiments, their best trials at hand."""
    its_best = BEST_TRIAL.id == ExperimentRow.best_trial_id
    return select(*entities).select_from(ExperimentRow).outerjoin(BEST_TRIAL, its_best)


def select_runs(*entities: Any) -> Found:
    """Begin a statement about runs, with their experiments, projects and workspaces."""
    return (
        select(*entities)
        .select_from(TrialRow)
        .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
        .join(ProjectRow, ProjectRow.id == TrialRow.project_id)
        .join(WorkspaceRow, WorkspaceRow.id == ProjectRow.workspace_id)
    )


def search_experiments(*, project_id: int | None, filter_text: str, sort_text: str) -> Found:
    """Find experiments with their best trials; empty texts ask for all of them, by id.

    Raises:
        InvalidArgument: A text is malformed.
    """
    found = select_experiments(ExperimentRow, BEST_TRIAL)
    if project_id is not None:
        found = found.where(ExperimentRow.project_id == project_id)
    if filter_text:
        found = found.where(compile_filter(parse_filter(filter_text), EXPERIMENTS))
    return found.order_by(*compile_sort(sort_text, EXPERIMENTS))


def search_runs(
    *entities: Any, project_id: int | None, filter_text: str, sort_text: str = ""
) -> Found:
    """Find runs; as `search_experiments`."""
    found = select_runs(*entities)
    if project_id is not None:
        found = found.where(TrialRow.project_id == project_id)
    if filter_text:
        found = found.where(compile_filter(parse_filter(filter_text), RUNS))
    return found.order_by(*compile_sort(sort_text, RUNS))
