"""What can be wrong with a wish about an experiment or a trial.

ExperimentRefused
├── ExperimentNotFound
├── TrialNotFound
├── BadExperiment             the request cannot become an experiment, or a change of one
└── ExperimentInWrongState
"""

from __future__ import annotations


class ExperimentRefused(Exception):
    """The wish is not granted; the text says why."""


class ExperimentNotFound(ExperimentRefused):
    """There is no such experiment."""

    def __init__(self, experiment_id: int | str) -> None:
        super().__init__(f"experiment '{experiment_id}' not found")
        self.experiment_id = experiment_id


class TrialNotFound(ExperimentRefused):
    """There is no such trial."""

    def __init__(self, trial_id: int | str) -> None:
        super().__init__(f"trial '{trial_id}' not found")
        self.trial_id = trial_id


class BadExperiment(ExperimentRefused):
    """The request cannot become an experiment, or a change of one."""


class ExperimentInWrongState(ExperimentRefused):
    """The experiment or trial is not in a state for this."""
