"""Statements of the plain lists: experiments by a few properties, the trials of one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, exists, or_, select

from shipway_master.queries.columns import EXPERIMENT_COLUMNS, RUN_COLUMNS
from shipway_master.queries.conditions import REFINED_STATES
from shipway_master.queries.jsonvalues import json_elements, json_number
from shipway_master.queries.search import Found, select_experiments
from shipway_master.queries.states import ACTIVE, shown_experiment_state, shown_trial_state
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.users import UserRow
from shipway_master.trialmetrics.groups import VALIDATION, key_of_group
from shipway_proto.determined.api.v1.experiment_pb2 import (
    BulkExperimentFilters,
    GetExperimentsRequest,
)
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC, OrderBy
from shipway_proto.determined.api.v1.trial_pb2 import GetExperimentTrialsRequest
from shipway_proto.determined.common.v1.common_pb2 import Int32FieldFilter
from shipway_proto.determined.experiment.v1.experiment_pb2 import State

_BY = GetExperimentsRequest
_EXPERIMENT_KEYS: Final = {
    _BY.SORT_BY_ID: "id",
    _BY.SORT_BY_DESCRIPTION: "description",
    _BY.SORT_BY_START_TIME: "startTime",
    _BY.SORT_BY_END_TIME: "endTime",
    _BY.SORT_BY_STATE: "state",
    _BY.SORT_BY_NUM_TRIALS: "numTrials",
    _BY.SORT_BY_PROGRESS: "progress",
    _BY.SORT_BY_USER: "user",
    _BY.SORT_BY_NAME: "name",
    _BY.SORT_BY_FORKED_FROM: "forkedFrom",
    _BY.SORT_BY_RESOURCE_POOL: "resourcePool",
    _BY.SORT_BY_PROJECT_ID: "projectId",
    _BY.SORT_BY_CHECKPOINT_SIZE: "checkpointSize",
    _BY.SORT_BY_CHECKPOINT_COUNT: "checkpointCount",
    _BY.SORT_BY_SEARCHER_METRIC_VAL: "searcherMetricsVal",
}
_OF = GetExperimentTrialsRequest
_TRIAL_KEYS: Final = {
    _OF.SORT_BY_ID: "id",
    _OF.SORT_BY_START_TIME: "startTime",
    _OF.SORT_BY_END_TIME: "endTime",
    _OF.SORT_BY_STATE: "state",
    _OF.SORT_BY_BEST_VALIDATION_METRIC: "searcherMetricsVal",
    _OF.SORT_BY_DURATION: "duration",
    _OF.SORT_BY_CHECKPOINT_SIZE: "checkpointSize",
}


def list_experiments(request: GetExperimentsRequest) -> Found:
    """Find the experiments that a request asks for, in its order."""
    found = select_experiments(ExperimentRow).where(*_conditions(request))
    if request.users:
        owners = select(UserRow.id).where(UserRow.username.in_(request.users))
        found = found.where(ExperimentRow.owner_id.in_(owners))
    if request.HasField("experiment_id_filter"):
        found = found.where(*_id_conditions(request.experiment_id_filter))
    key = EXPERIMENT_COLUMNS[_EXPERIMENT_KEYS.get(request.sort_by, "id")].make_sort_key()
    return _ordered(found, key, ExperimentRow.id, request.order_by)


def pick_experiments(filters: BulkExperimentFilters) -> Found:
    """Find the experiments that a call about many is for, by id."""
    found = select_experiments(ExperimentRow).where(*_conditions(filters))
    if filters.excluded_experiment_ids:
        found = found.where(ExperimentRow.id.not_in(filters.excluded_experiment_ids))
    return found.order_by(ExperimentRow.id)


def list_trials(request: GetExperimentTrialsRequest, *, metric: str) -> Found:
    """Find the trials of an experiment that a request asks for, in its order.

    Args:
        metric: What the experiment is judged by.
    """
    found: Found = select(TrialRow).where(TrialRow.experiment_id == request.experiment_id)
    if request.states:
        found = found.join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id).where(
            _has_state(TrialRow.state, shown_trial_state(), request.states)
        )
    return _ordered(found, _trial_key(request, metric), TrialRow.id, request.order_by)


def _trial_key(request: GetExperimentTrialsRequest, metric: str) -> SQLColumnExpression[Any]:
    match request.sort_by:
        case _OF.SORT_BY_LATEST_VALIDATION_METRIC:
            path = [key_of_group(VALIDATION), metric, "last"]
            return json_number(TrialRow.summary_metrics, path)
        case _OF.SORT_BY_BATCHES_PROCESSED:
            return TrialRow.total_batches
        case _OF.SORT_BY_RESTARTS:
            return TrialRow.restarts
        case _OF.SORT_BY_LOG_RETENTION_DAYS:
            return TrialRow.log_retention_days
        case other:
            return RUN_COLUMNS[_TRIAL_KEYS.get(other, "id")].make_sort_key()


def _ordered(
    found: Found, key: SQLColumnExpression[Any], ident: Any, order: OrderBy.ValueType
) -> Found:
    if order == ORDER_BY_DESC:
        return found.order_by(key.desc().nulls_last(), ident.desc())
    return found.order_by(key.asc().nulls_last(), ident.asc())


def _conditions(
    wanted: GetExperimentsRequest | BulkExperimentFilters,
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for text, column in (
        (wanted.description, ExperimentRow.description),
        (wanted.name, ExperimentRow.name),
    ):
        if text:
            conditions.append(column.icontains(text, autoescape=True))
    for label in wanted.labels:
        labels = json_elements(ExperimentRow.labels, [])
        conditions.append(exists().select_from(labels).where(labels.c.value == label))
    if wanted.HasField("archived"):
        conditions.append(ExperimentRow.archived.is_(wanted.archived.value))
    if wanted.states:
        shown = shown_experiment_state()
        conditions.append(_has_state(ExperimentRow.state, shown, wanted.states))
    if wanted.user_ids:
        conditions.append(ExperimentRow.owner_id.in_(wanted.user_ids))
    if wanted.project_id:
        conditions.append(ExperimentRow.project_id == wanted.project_id)
    return conditions


def _has_state(
    stored: SQLColumnExpression[str],
    shown: ColumnElement[str],
    states: Sequence[State.ValueType],
) -> ColumnElement[bool]:
    """ACTIVE stands for all that lives; how far it is can be asked for as well."""
    known = State.values()
    names = {State.Name(one).removeprefix("STATE_") for one in states if one in known}
    refined = sorted(names & REFINED_STATES)
    as_stored = stored.in_(sorted(names - REFINED_STATES))
    if not refined or ACTIVE in names:
        return as_stored
    return or_(as_stored, and_(stored == ACTIVE, shown.in_(refined)))


def _id_conditions(wanted: Int32FieldFilter) -> list[ColumnElement[bool]]:
    ident = ExperimentRow.id
    conditions: list[ColumnElement[bool]] = []
    if wanted.HasField("lt"):
        conditions.append(ident < wanted.lt)
    if wanted.HasField("lte"):
        conditions.append(ident <= wanted.lte)
    if wanted.HasField("gt"):
        conditions.append(ident > wanted.gt)
    if wanted.HasField("gte"):
        conditions.append(ident >= wanted.gte)
    if wanted.incl:
        conditions.append(ident.in_(wanted.incl))
    if wanted.not_in:
        conditions.append(ident.not_in(wanted.not_in))
    return conditions
