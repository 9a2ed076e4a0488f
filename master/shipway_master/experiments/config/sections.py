"""The smaller sections of an experiment's configuration; keys and defaults are Determined's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from shipway_common.settings import Settings
from shipway_master.searchers.numbers import Number
from shipway_master.sizes import parse_size
from shipway_master.tasks.model import DeviceMapping

_Natural = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]


def _check_length(value: Mapping[str, int]) -> Mapping[str, int]:
    if len(value) != 1:
        raise ValueError("it must have exactly one of batches, records and epochs")
    return value


Length = Annotated[
    Mapping[Literal["batches", "records", "epochs"], _Natural], AfterValidator(_check_length)
]
"""So much training, as `{batches: 100}`."""


class ExperimentResources(Settings):
    """What each trial runs on, and the experiment at most."""

    slots_per_trial: int = Field(
        default=1, ge=0, le=2**31 - 1, description="Slots of each trial; 0: it runs without."
    )
    max_slots: int | None = Field(
        default=None, ge=0, le=2**31 - 1, description="Slots of all trials together, at most."
    )
    weight: Annotated[Number, Field(gt=0)] = Field(
        default=1, description="Share of the pool where it is shared fairly."
    )
    priority: int | None = Field(
        default=None, ge=1, le=99, description="1 comes first; by default the pool's."
    )
    resource_pool: str = Field(
        default="", description="The pool; by default the workspace's, then the cluster's."
    )
    shm_size: Annotated[int | None, BeforeValidator(parse_size)] = Field(
        default=None, ge=0, description="Size of /dev/shm, in bytes or as `4g`, `512 MiB`."
    )
    devices: Sequence[DeviceMapping] = Field(
        default=(),
        description="Device files that the containers get, also as `HOST:CONTAINER[:MODE]`.",
    )
    is_single_node: bool | None = Field(
        default=None, description="Whether all slots of a trial must be on one node."
    )
    native_parallel: bool = Field(default=False, description="Older; handed to the training code.")
    slots: Any = Field(
        default=None, exclude=True, description="Read in templates only, and not used."
    )
    agent_label: Any = Field(default=None, exclude=True, description="Removed; read and not used.")


class Optimizations(Settings):
    """How gradients are exchanged; read by the training code of trial classes. Deprecated."""

    aggregation_frequency: _Positive = Field(
        default=1, description="Batches between two exchanges."
    )
    average_aggregated_gradients: bool = Field(
        default=True, description="Divide the sum of several batches by their number."
    )
    average_training_metrics: bool = Field(
        default=True, description="Average metrics over all slots."
    )
    gradient_compression: bool = Field(
        default=False, description="Exchange gradients in half precision."
    )
    grad_updates_size_file: str | None = Field(
        default=None, description="File with sizes of gradients."
    )
    mixed_precision: Literal["O0", "O1", "O2", "O3"] = Field(
        default="O0", description="Level of Apex."
    )
    tensor_fusion_threshold: _Natural = Field(
        default=64, description="MiB of tensors in one exchange."
    )
    tensor_fusion_cycle_time: _Natural = Field(
        default=1, description="Milliseconds between exchanges."
    )
    auto_tune_tensor_fusion: bool = Field(default=False, description="Let Horovod choose both.")


class Profiling(Settings):
    """What is measured while trials run."""

    enabled: bool = Field(
        default=False, description="Record readings of GPUs, CPUs, memory and network."
    )
    begin_on_batch: _Natural = Field(
        default=0, description="Deprecated: first batch that is measured."
    )
    end_after_batch: _Natural | None = Field(
        default=None, description="Deprecated: last batch that is measured."
    )
    sync_timings: bool = Field(
        default=True, description="Deprecated: wait for the GPU at each timing."
    )

    @model_validator(mode="after")
    def _check_order(self) -> Profiling:
        if self.end_after_batch is not None and self.begin_on_batch > self.end_after_batch:
            raise ValueError("begin_on_batch must not be after end_after_batch")
        return self


class Reproducibility(Settings):
    """What makes a run repeatable."""

    experiment_seed: int | None = Field(
        default=None,
        ge=0,
        le=2**32 - 1,
        description="Seed of the searcher and of all trials; by default one is chosen.",
    )


class Retention(Settings):
    """How long logs are kept."""

    log_retention_days: int | None = Field(
        default=None,
        ge=-1,
        le=2**15 - 1,
        description="Days after a trial's end; -1: for ever. By default the master's.",
    )


class PbsOptions(Settings):
    """Wishes for PBS."""

    slots_per_node: _Positive | None = Field(
        default=None, description="Slots that each node gives."
    )
    pbsbatch_args: Sequence[str] = Field(default=(), description="More options for qsub.")

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_empty(write(self))


class PachydermServer(Settings):
    """Where Pachyderm is."""

    host: str = Field(description="Its host.")
    port: int = Field(description="Its port.")


class PachydermProxy(Settings):
    """Where Pachyderm's proxy is."""

    scheme: str = Field(description="`http` or `https`.")
    host: str = Field(description="Its host.")
    port: int = Field(description="Its port.")


class PachydermDataset(Settings):
    """Which data of Pachyderm is meant."""

    project: str = Field(description="The project.")
    repo: str = Field(description="The repository in it.")
    commit: str = Field(description="The commit.")
    branch: str = Field(description="The branch.")
    token: str = Field(repr=False, description="Who may read it.")


class Pachyderm(Settings):
    """Data in Pachyderm, found by the training code through the SDK."""

    pachd: PachydermServer
    proxy: PachydermProxy
    dataset: PachydermDataset


class Webhooks(Settings):
    """Which webhooks hear of the experiment, beside those of its whole workspace."""

    webhook_id: Sequence[int] | None = Field(default=None, description="By id.")
    webhook_name: Sequence[str] | None = Field(default=None, description="By name.")
    exclude: bool = Field(default=False, description="None hears of it.")


class Integrations(Settings):
    """Other systems."""

    pachyderm: Pachyderm | None = Field(default=None, description="Data in Pachyderm.")
    webhooks: Webhooks | None = Field(
        default=None, description="Which webhooks hear of the experiment."
    )


def without_empty(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the keys that hold nothing."""
    return {key: value for key, value in plain.items() if value not in (None, "", [], ())}
