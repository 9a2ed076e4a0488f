"""What trials report, put together: the intake and the services around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from shipway_master.services.curves import CurveService
from shipway_master.services.experimentmetrics import ExperimentMetricService
from shipway_master.services.metricstreams import MetricStreamService
from shipway_master.services.trialmetrics import TrialMetricService
from shipway_master.services.trialreports import OnValidation, TrialReportService
from shipway_master.services.trialsources import TrialSourceService
from shipway_master.services.workloads import WorkloadService
from shipway_master.store.database import Database
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.trialmetrics.intake import MetricIntake
from shipway_master.trialmetrics.reading import StoredMetrics
from shipway_master.trialmetrics.rounds import Rounds


@asynccontextmanager
async def running_trial_metrics(
    database: Database, *, on_validation: OnValidation
) -> AsyncGenerator[list[object]]:
    """Take reports of trials until the block ends; yields the services for the API."""
    trials, stored = KnownTrials(database), StoredMetrics(database)
    async with MetricIntake(database) as intake:
        yield [
            TrialReportService(trials, intake, on_validation),
            TrialMetricService(trials, stored),
            WorkloadService(database, trials),
            TrialSourceService(database, trials, stored),
            ExperimentMetricService(database),
            CurveService(database, stored),
            MetricStreamService(database, stored, Rounds(database, intake.changes)),
        ]
