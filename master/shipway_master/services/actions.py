"""What can be done to one experiment, for calls about one and for calls about many."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import FailedPrecondition, InvalidArgument
from shipway_master.experiments.changes import ExperimentChanges
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.experiments.states import RunState
from shipway_master.experiments.trialdeletion import TrialDeletions
from shipway_master.experiments.unmanaged import require_managed
from shipway_master.queries.loading import get_experiment_row, get_trial_row
from shipway_master.services.told import told
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.tasks.workspaces import Terms, Workspaces

_FOREVER, _MOST_DAYS = -1, 32767


class ExperimentActions:
    """Acts on experiments for those who own them, and for administrators.

    All methods raise a MasterError when there is no such experiment, when it is somebody else's,
    or when it is not in a state for it.
    """

    def __init__(
        self,
        database: Database,
        experiments: Experiments,
        changes: ExperimentChanges,
        deletions: TrialDeletions,
    ) -> None:
        self._database = database
        self._experiments, self._changes = experiments, changes
        self._deletions = deletions

    async def activate(self, experiment_id: int, who: Principal) -> None:
        """Let its trials run."""
        record = await self._find_managed(experiment_id, who)
        with told():
            await self._experiments.get(record.id).activate()

    async def pause(self, experiment_id: int, who: Principal) -> None:
        """Have its trials leave their resources."""
        record = await self._find_managed(experiment_id, who)
        with told():
            await self._experiments.get(record.id).pause()

    async def cancel(self, experiment_id: int, who: Principal) -> None:
        """Have its trials end in good order."""
        record = await self._find_managed(experiment_id, who)
        await self._changes.stop(record, RunState.STOPPING_CANCELED, reason="user requested cancel")

    async def kill(self, experiment_id: int, who: Principal) -> None:
        """End its trials at once."""
        record = await self._find_managed(experiment_id, who)
        await self._changes.stop(record, RunState.STOPPING_KILLED, reason="user requested kill")

    async def kill_trial(self, experiment_id: int, trial_id: int, who: Principal) -> None:
        """End one of its trials at once."""
        record = await self._find_managed(experiment_id, who)
        await self._experiments.stop_trial(
            record.id, trial_id, RunState.STOPPING_KILLED, reason="user requested kill"
        )

    async def delete(self, experiment_id: int, who: Principal) -> None:
        """Begin to delete it."""
        record = await self._find(experiment_id, who)
        with told():
            await self._changes.delete(record)

    async def delete_trial(self, experiment_id: int, trial_id: int, who: Principal) -> None:
        """Begin to delete one of its trials."""
        record = await self._find(experiment_id, who)
        with told():
            await self._deletions.delete(record, trial_id)

    async def archive(self, experiment_id: int, who: Principal, *, is_archived: bool) -> None:
        """Put it aside, or back."""
        async with self._database.writing() as session:
            row = await self._get_row(session, experiment_id, who)
            if is_archived and not RunState(row.state).is_final:
                raise FailedPrecondition(
                    f"experiment {row.id} has not ended: only what has ended can be archived"
                )
            row.archived = is_archived

    async def move(self, experiment_id: int, destination_id: int, who: Principal) -> None:
        """Move it, and its trials, into another project."""
        terms = await self.load_terms(destination_id)
        async with self._database.writing() as session:
            row = await self._get_row(session, experiment_id, who)
            if row.archived:
                raise FailedPrecondition(f"experiment {row.id} is archived: it stays where it is")
            if not RunState(row.state).is_final:
                with told():
                    terms.require_pool(row.resource_pool)
            row.project_id = destination_id
            trials = update(TrialRow).where(TrialRow.experiment_id == experiment_id)
            await session.execute(trials.values(project_id=destination_id))
        await self._experiments.relocate([experiment_id], terms.workspace_id)

    async def load_terms(self, project_id: int) -> Terms:
        """Load the terms of a project that something is moved into, which must be open to it."""
        with told():
            return await Workspaces(self._database).load_terms_of_project(project_id)

    async def retain_logs(self, experiment_id: int, days: int, who: Principal) -> None:
        """Say how long the logs of all of its trials are kept."""
        check_days(days)
        async with self._database.writing() as session:
            row = await self._get_row(session, experiment_id, who)
            row.log_retention_days = days
            trials = update(TrialRow).where(TrialRow.experiment_id == experiment_id)
            await session.execute(trials.values(log_retention_days=days))

    async def retain_trial_logs(self, trial_id: int, days: int, who: Principal) -> None:
        """Say how long the log of one trial is kept."""
        check_days(days)
        async with self._database.writing() as session:
            row = await get_trial_row(session, trial_id)
            await self._get_row(session, row.experiment_id, who)
            row.log_retention_days = days

    async def label(
        self, experiment_id: int, label: str, who: Principal, *, is_wanted: bool
    ) -> list[str]:
        """Give it a label, or take it away; returns those that it has then."""
        if is_wanted and not label.strip():
            raise InvalidArgument("label: must not be empty")
        async with self._database.writing() as session:
            row = await self._get_row(session, experiment_id, who)
            others = [one for one in row.labels if one != label]
            if not is_wanted:
                row.labels = others
            elif len(others) == len(row.labels):
                row.labels = [*others, label]
            return list(row.labels)

    async def archive_trial(self, trial_id: int, who: Principal, *, is_archived: bool) -> None:
        """Put one trial aside, or back."""
        async with self._database.writing() as session:
            row = await get_trial_row(session, trial_id)
            await self._get_row(session, row.experiment_id, who)
            if is_archived and not RunState(row.state).is_final:
                raise FailedPrecondition(
                    f"run {row.id} has not ended: only what has ended can be archived"
                )
            row.archived = is_archived

    async def _find(self, experiment_id: int, who: Principal) -> ExperimentRecord:
        with told():
            record = await self._experiments.load_record(experiment_id)
        who.require_owner_or_admin(record.owner_id)
        return record

    async def _find_managed(self, experiment_id: int, who: Principal) -> ExperimentRecord:
        record = await self._find(experiment_id, who)
        with told():
            require_managed(record)
        return record

    async def _get_row(
        self, session: AsyncSession, experiment_id: int, who: Principal
    ) -> ExperimentRow:
        row = await get_experiment_row(session, experiment_id)
        who.require_owner_or_admin(row.owner_id)
        return row


def check_days(days: int) -> None:
    """Raise InvalidArgument unless logs can be kept for so many days."""
    if not _FOREVER <= days <= _MOST_DAYS:
        raise InvalidArgument(f"num_days: from -1 (for ever) to {_MOST_DAYS}, and not {days}")
