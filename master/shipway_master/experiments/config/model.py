"""The configuration of an experiment: what one text says of it, and the whole of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, field_serializer

from shipway_common.settings import Settings
from shipway_master.experiments.config.masking import mask_secrets
from shipway_master.experiments.config.sections import (
    ExperimentResources,
    Integrations,
    Length,
    Optimizations,
    PbsOptions,
    Profiling,
    Reproducibility,
    Retention,
    without_empty,
)
from shipway_master.experiments.config.storage import CheckpointStorage
from shipway_master.searchers.config import SearcherConfig
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.tasks.logpolicy import LogPolicies
from shipway_master.tasks.model import BindMount, Environment, SlurmOptions


def _list_labels(value: object) -> object:
    """Take a mapping of labels to anything, as very old clients send them."""
    return list(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else value


def _check_entrypoint(value: object) -> object:
    if value is None:
        return None
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        raise ValueError("it must be a text, or a list of texts")
    given = cast("Sequence[object]", words)
    if not all(isinstance(word, str) for word in given):
        raise ValueError("it must be a text, or a list of texts")
    texts = cast("Sequence[str]", words)
    if not texts or not texts[0].strip():
        raise ValueError("there is nothing to run")
    if any("\0" in word for word in texts):
        raise ValueError("a word has a NUL byte in it")
    return value


def _drop_repeated(labels: Sequence[str]) -> Sequence[str]:
    return tuple(dict.fromkeys(labels))


def _must_be_null(value: object) -> object:
    raise ValueError("it has been removed and must be left out")


class _Base(Settings):
    """What a part of a configuration and a whole one have in common."""

    description: str | None = Field(default=None, description="What people are to know of it.")
    labels: Annotated[
        Sequence[str], BeforeValidator(_list_labels), AfterValidator(_drop_repeated)
    ] = Field(default=(), description="Words that it can be found by.")
    workspace: str = Field(default="", description="The workspace; goes with `project`.")
    project: str = Field(default="", description="The project in it.")
    entrypoint: Annotated[str | Sequence[str] | None, BeforeValidator(_check_entrypoint)] = Field(
        default=None, description="What runs: a line for the shell, or a program and its arguments."
    )
    data: Mapping[str, Any] = Field(
        default={},
        description="Whatever the training code wants; values under `secrets` are not shown.",
    )
    max_restarts: int = Field(
        default=5, ge=0, le=2**31 - 1, description="So often a trial that failed is started again."
    )
    log_policies: LogPolicies = Field(default=(), description="What lines in logs mean.")
    retention_policy: Retention = Field(default=Retention(), description="How long logs are kept.")
    checkpoint_policy: Literal["best", "all", "none"] = Field(
        default="best", description="After which validations trial classes make a checkpoint."
    )
    min_checkpoint_period: Length = Field(
        default={"batches": 0}, description="Deprecated: trial classes make a checkpoint so often."
    )
    min_validation_period: Length = Field(
        default={"batches": 0}, description="Deprecated: trial classes validate so often."
    )
    perform_initial_validation: bool = Field(
        default=False, description="Trial classes validate before they train."
    )
    records_per_epoch: int = Field(
        default=0, ge=0, le=2**63 - 1, description="Deprecated: the size of the data."
    )
    scheduling_unit: int = Field(
        default=100,
        ge=1,
        le=2**31 - 1,
        description="Deprecated: batches between two looks at the master.",
    )
    resources: ExperimentResources = Field(
        default=ExperimentResources(), description="What it runs on."
    )
    environment: Environment = Field(default=Environment(), description="What containers are like.")
    bind_mounts: Sequence[BindMount] = Field(
        default=(), description="Folders of the nodes that the containers see."
    )
    slurm: SlurmOptions = Field(default=SlurmOptions(), description="Wishes for Slurm.")
    pbs: PbsOptions = Field(default=PbsOptions(), description="Wishes for PBS; there is none here.")
    preemption_timeout: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Seconds to leave in after a trial was asked to; 3600 by default.",
    )
    profiling: Profiling = Field(default=Profiling(), description="What is measured.")
    optimizations: Optimizations = Field(default=Optimizations(), description="Deprecated.")
    reproducibility: Reproducibility = Field(default=Reproducibility(), description="Seeds.")
    integrations: Integrations | None = Field(default=None, description="Other systems.")
    debug: bool = Field(default=False, description="The harness logs more.")
    data_layer: Any = Field(default=None, exclude=True, description="Removed; read and not used.")
    security: Any = Field(default=None, exclude=True, description="Removed; read and not used.")
    tensorboard_storage: Any = Field(
        default=None, exclude=True, description="Removed; read and not used."
    )
    internal: Annotated[Any, AfterValidator(_must_be_null)] = Field(
        default=None, exclude=True, description="Removed; only null is taken."
    )

    @field_serializer("slurm", mode="wrap")
    def _dump_slurm(self, value: SlurmOptions, write: Any) -> dict[str, Any]:
        return without_empty(write(value))


class Part(_Base):
    """What one text says of an experiment; the rest comes from what it is put over.

    The sections that are merged before they can be checked are plain data here.
    """

    name: str | None = None
    searcher: Mapping[str, Any] = {}
    hyperparameters: Mapping[str, Any] = {}
    checkpoint_storage: Mapping[str, Any] = {}


class ExperimentConfig(_Base):
    """The whole configuration of an experiment."""

    name: str = Field(description="What people call it; by default three words.")
    searcher: SearcherConfig = Field(description="Which trials there are.")
    hyperparameters: Hyperparameters = Field(
        default=Hyperparameters({}), description="What trials differ in."
    )
    checkpoint_storage: CheckpointStorage | None = Field(
        default=None,
        description="Where checkpoints go; by default the workspace's, then the master's.",
    )

    def to_plain(self, *, reveal: bool) -> dict[str, Any]:
        """Write it with all defaults, as `experiment.config` of the API has it.

        Args:
            reveal: Write passwords and keys too, as its own tasks must have them.
        """
        plain = self.model_dump(mode="json", context={"reveal": True})
        if plain["retention_policy"]["log_retention_days"] is None:
            del plain["retention_policy"]
        auth = plain["environment"]["registry_auth"]
        if auth is not None:
            plain["environment"]["registry_auth"] = without_empty(auth)
        return plain if reveal else mask_secrets(plain)
