"""The checkpoints of an experiment that a policy does not keep."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.measured import VALIDATION, load_measured, rate
from shipway_master.checkpoints.policy import Candidate, Policy, choose_removed, read_policy
from shipway_master.checkpoints.records import Found, load_found
from shipway_master.checkpoints.state import WITH_FILES, CheckpointState
from shipway_master.queries.views import get_part, read_config
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.models import ModelVersionRow
from shipway_master.trialmetrics.facts import read_searcher_metric

_WITH_FILES = [state.value for state in WITH_FILES]


def read_own_policy(experiment: ExperimentRow) -> Policy:
    """Read the policy in the configuration of an experiment."""
    return read_policy(get_part(read_config(experiment), "checkpoint_storage"))


async def choose(session: AsyncSession, experiment: ExperimentRow, policy: Policy) -> list[Found]:
    """Choose the checkpoints with files that *policy* does not keep.

    What has a name in the model registry stays in any case, and so does what a live trial began
    with or would go on from.
    """
    found = await load_with_files(session, experiment.id)
    measured = await load_measured(session, [one.row.id for one in found], [VALIDATION])
    judged_by = read_searcher_metric(experiment.config)
    candidates: list[Candidate] = []
    for one in found:
        badness = rate(judged_by, measured.get(one.row.id))
        candidates.append(
            Candidate(
                uuid=one.row.uuid,
                trial_id=one.trial.id,
                number=one.row.id,
                is_whole=one.row.state == CheckpointState.COMPLETED.value,
                badness=badness,
            )
        )
    removed = {one.uuid for one in choose_removed(candidates, policy)}
    removed -= await _load_protected(session, experiment.id)
    removed -= set(_find_newest_of_live(found).values())
    return [one for one in found if one.row.uuid in removed]


async def load_with_files(session: AsyncSession, experiment_id: int) -> list[Found]:
    """Load the checkpoints of an experiment that have files, in the order of their reports."""
    return await _load_with_files(session, TrialRow.experiment_id == experiment_id)


async def load_with_files_of_trial(session: AsyncSession, trial_id: int) -> list[Found]:
    """Load those of one trial."""
    return await _load_with_files(session, TrialRow.id == trial_id)


async def _load_with_files(session: AsyncSession, which: ColumnElement[bool]) -> list[Found]:
    statement = (
        select(CheckpointRow.uuid)
        .join(TrialRow, TrialRow.id == CheckpointRow.trial_id)
        .where(which, CheckpointRow.state.in_(_WITH_FILES))
        .order_by(CheckpointRow.id)
    )
    return await load_found(session, (await session.scalars(statement)).all())


def _find_newest_of_live(found: Sequence[Found]) -> dict[int, str]:
    """The newest whole checkpoint of each trial that has not ended."""
    return {
        one.trial.id: one.row.uuid
        for one in found
        if one.trial.ended_at is None and one.row.state == CheckpointState.COMPLETED.value
    }


async def _load_protected(session: AsyncSession, experiment_id: int) -> set[str]:
    """Those with a name in the model registry, and those that a live trial began with."""
    registered = (
        select(CheckpointRow.uuid)
        .join(ModelVersionRow, ModelVersionRow.checkpoint_id == CheckpointRow.id)
        .join(TrialRow, TrialRow.id == CheckpointRow.trial_id)
        .where(TrialRow.experiment_id == experiment_id)
    )
    sources = select(TrialRow.source_checkpoint).where(
        TrialRow.ended_at.is_(None), TrialRow.source_checkpoint.is_not(None)
    )
    found = {*(await session.scalars(registered)), *(await session.scalars(sources))}
    return {uuid for uuid in found if uuid is not None}
