"""Experiments and all that belongs to them, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from shipway_master.background import Background
from shipway_master.checkpoints.gc import Collector
from shipway_master.checkpoints.latest import find_latest
from shipway_master.checkpoints.records import CheckpointRecords
from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.trialmetrics import running_trial_metrics
from shipway_master.config import MasterConfig
from shipway_master.experiments.changes import ExperimentChanges
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.placement import Placement
from shipway_master.experiments.records import ExperimentRecord, ExperimentRecords
from shipway_master.experiments.trialdeletion import TrialDeletions
from shipway_master.experiments.unmanaged import UnmanagedTrials
from shipway_master.experiments.warmstart import WarmStart
from shipway_master.logbook import LogBook, StoredTasks
from shipway_master.services.actions import ExperimentActions
from shipway_master.services.checkpointreports import CheckpointReportService
from shipway_master.services.checkpoints import CheckpointService
from shipway_master.services.experimentlists import ExperimentListService
from shipway_master.services.experimentmarks import ExperimentMarkService
from shipway_master.services.experiments import ExperimentService
from shipway_master.services.experimentsearch import ExperimentSearchService
from shipway_master.services.manyexperiments import ManyExperimentsService
from shipway_master.services.runs import RunService
from shipway_master.services.tensorboardfiles import TensorboardFileService
from shipway_master.services.triallogs import TrialLogService
from shipway_master.services.trials import TrialService
from shipway_master.services.webhooks import WebhookService
from shipway_master.store.database import Database
from shipway_master.tasks.places import Places
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.webhooks.events import WebhookEvents
from shipway_master.webhooks.key import load_key
from shipway_master.webhooks.lines import LineWatch
from shipway_master.webhooks.records import WebhookRecords
from shipway_master.webhooks.sender import Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentParts:
    """What the rest of the master needs of the experiments."""

    experiments: Experiments
    changes: ExperimentChanges
    collector: Collector
    services: Sequence[object]
    """Objects with methods named as RPCs."""

    async def resume(self) -> None:
        """Let all go on that an earlier process left, once the tasks are there again."""
        await self.experiments.resume()
        await self.changes.resume_deletions()
        await self.collector.resume()


@asynccontextmanager
async def running_experiments(
    config: MasterConfig,
    *,
    database: Database,
    tasks: Tasks,
    places: Places,
    cluster: Cluster,
    logbook: LogBook,
) -> AsyncGenerator[ExperimentParts]:
    """Run experiments until the block ends; enter it before the tasks are restored.

    Entered in this order, left in reverse: what removes checkpoints, the experiments, what
    listens to their trials.
    """
    workspaces = Workspaces(database)
    async with AsyncExitStack() as stack:
        background = await stack.enter_async_context(Background())
        collector = await stack.enter_async_context(Collector(database, tasks, workspaces))

        webhooks = WebhookRecords(database)
        sender = Sender(webhooks, key=await _load_webhook_key(config))
        events = WebhookEvents(database, sender)
        lines = LineWatch(database, webhooks, sender)
        await lines.reload()
        logbook.observe(lines.see)
        background.start(sender.keep_sending(), name="calls of webhooks")
        background.start(lines.keep_telling(), name="lines for webhooks")

        async def clean_up(record: ExperimentRecord) -> None:
            background.start(collector.collect(record.id), name=f"checkpoints of {record.id}")
            events.announce()

        records = ExperimentRecords(database, note_end=events.note_end)
        experiments = await stack.enter_async_context(
            Experiments(
                records=records,
                tasks=tasks,
                find_latest=partial(find_latest, database),
                find_source=WarmStart(database).find_source,
                on_end=clean_up,
                logbook=logbook,
            )
        )
        await experiments.load()
        changes = ExperimentChanges(
            database,
            experiments,
            tasks=tasks,
            places=places,
            storage=collector,
            logbook=logbook,
            background=background,
        )
        unmanaged = UnmanagedTrials(database, records, announce_end=logbook.announce_end)
        background.start(unmanaged.watch(), name="trials that run elsewhere")
        metrics = await stack.enter_async_context(
            running_trial_metrics(database, on_validation=experiments.validated)
        )
        storage = config.checkpoint_storage.model_dump(mode="json", exclude_none=True)
        placement = Placement(database, workspaces, storage)
        deletions = TrialDeletions(
            database, experiments, storage=collector, logbook=logbook, background=background
        )
        actions = ExperimentActions(database, experiments, changes, deletions)
        yield ExperimentParts(
            experiments=experiments,
            changes=changes,
            collector=collector,
            services=[
                ExperimentService(database, experiments, changes, actions, cluster, placement),
                TrialService(database, experiments, actions, unmanaged, KnownTrials(database)),
                CheckpointReportService(database, CheckpointRecords(database)),
                CheckpointService(database, CheckpointRecords(database), collector),
                TensorboardFileService(database, collector),
                ExperimentListService(database, tasks),
                ExperimentSearchService(database),
                TrialLogService(database, logbook, StoredTasks(database)),
                ExperimentMarkService(database, actions, config.retention_policy),
                ManyExperimentsService(database, actions),
                RunService(database, actions, KnownTrials(database)),
                WebhookService(database, webhooks, sender, events, lines, experiments),
                *metrics,
            ],
        )


async def _load_webhook_key(config: MasterConfig) -> str:
    if config.webhooks.signing_key is not None:
        return config.webhooks.signing_key.get_secret_value()
    return await asyncio.to_thread(load_key, config.data / "webhook-key")
