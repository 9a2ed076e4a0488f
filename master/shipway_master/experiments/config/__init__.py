"""The configuration of an experiment: text or data in, a checked model and its plain form out.

Pure: no clock, no chance, no database.
"""

from shipway_master.experiments.config.draft import (
    Draft,
    Site,
    parse_experiment_config,
    read_experiment,
)
from shipway_master.experiments.config.masking import mask_secrets, mask_text
from shipway_master.experiments.config.model import ExperimentConfig
from shipway_master.experiments.config.problems import BadExperimentConfig
from shipway_master.experiments.config.storage import CheckpointStorage, parse_checkpoint_storage
from shipway_master.experiments.config.stored import load_experiment_config, override

__all__ = [
    "BadExperimentConfig",
    "CheckpointStorage",
    "Draft",
    "ExperimentConfig",
    "Site",
    "load_experiment_config",
    "mask_secrets",
    "mask_text",
    "override",
    "parse_checkpoint_storage",
    "parse_experiment_config",
    "read_experiment",
]
