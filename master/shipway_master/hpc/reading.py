"""What a launcher answers: resources, queue and status, checked and as types of ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)


class UnreadableAnswer(Exception):
    """The launcher answered in a form that we cannot read."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_Text = Annotated[str, BeforeValidator(_as_text)]


class Partition(_Part):
    """One partition, which is one resource pool."""

    name: _Text = Field(alias="partitionName")
    is_default: bool = Field(default=False, alias="default")
    total_nodes: int = Field(default=0, alias="totalNodes")
    available_nodes: int = Field(default=0, alias="totalAvailableNodes")
    allocated_nodes: int = Field(default=0, alias="totalAllocatedNodes")
    gpu_slots: int = Field(default=0, alias="totalGpuSlots")
    available_gpu_slots: int = Field(default=0, alias="totalAvailableGpuSlots")
    cpu_slots: int = Field(default=0, alias="totalCpuSlots")
    available_cpu_slots: int = Field(default=0, alias="totalAvailableCpuSlots")
    accelerator: _Text = ""


class Node(_Part):
    """One node."""

    name: _Text
    partitions: Sequence[_Text] = ()
    addresses: Sequence[_Text] = ()
    draining: bool = False
    allocated: bool = False
    gpu_count: int = Field(default=0, alias="gpuCount")
    gpus_in_use: int = Field(default=0, alias="gpuInUseCount")
    cpu_count: int = Field(default=0, alias="cpuCount")
    cpus_in_use: int = Field(default=0, alias="cpuInUseCount")


class Resources(_Part):
    """One sample of what the cluster has."""

    partitions: Sequence[Partition] = ()
    nodes: Sequence[Node] = ()

    def find_partition(self, name: str) -> Partition | None:
        """The partition of that name."""
        return next((one for one in self.partitions if one.name == name), None)

    def nodes_of(self, partition: str) -> list[Node]:
        """The nodes of a partition."""
        return [node for node in self.nodes if partition in node.partitions]


class QueuedJob(_Part):
    """A job as the workload manager sees it, ours or not."""

    state: _Text = ""
    name: _Text = ""
    partition: _Text = ""
    reason_code: _Text = Field(default="", alias="reasonCode")
    reason_text: _Text = Field(default="", alias="reasonDesc")


class DispatchState(StrEnum):
    """The states of a dispatch; one that we do not know is treated as UNKNOWN."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    MISSING = "MISSING"
    TERMINATED = "TERMINATED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self in _FINAL


_FINAL = {
    DispatchState.MISSING,
    DispatchState.TERMINATED,
    DispatchState.COMPLETED,
    DispatchState.FAILED,
}


class DispatchEvent(_Part):
    """Something the launcher says about a dispatch."""

    level: str
    reporter: str
    message: str


class _Extra(_Part):
    job_id: str | None = Field(default=None, alias="job-id")
    exit_code: int | None = Field(default=None, alias="exit-code")


class DispatchStatus(_Part):
    """A launcher's answer about one dispatch."""

    dispatch_id: str = Field(default="", alias="dispatchId")
    owner: str = Field(default="", alias="launchingUser")
    """Under whose name it is asked for."""
    state: DispatchState
    events: Sequence[DispatchEvent] = ()
    extra: _Extra = Field(default=_Extra(), alias="additionalProperties")

    @field_validator("state", mode="before")
    @classmethod
    def _keep_watching_unheard_of_states(cls, value: object) -> object:
        known = isinstance(value, str) and value in {state.value for state in DispatchState}
        return value if known or not isinstance(value, str) else DispatchState.UNKNOWN

    @field_validator("events", mode="wrap")
    @classmethod
    def _skip_incomplete_events(
        cls, value: object, read: ValidatorFunctionWrapHandler
    ) -> Sequence[DispatchEvent]:
        events: list[DispatchEvent] = []
        for entry in cast("Sequence[object]", value) if isinstance(value, list) else ():
            try:
                events += read([entry])
            except ValidationError:
                continue
        return events

    @field_validator("extra", mode="wrap")
    @classmethod
    def _ignore_odd_extras(cls, value: object, read: ValidatorFunctionWrapHandler) -> _Extra:
        try:
            return cast("_Extra", read(value))
        except ValidationError:
            return _Extra()

    @property
    def job_id(self) -> str | None:
        """The workload manager's own id, once there is one."""
        return self.extra.job_id or None

    @property
    def exit_code(self) -> int | None:
        """The job's exit code; only launchers that know it say it."""
        return self.extra.exit_code


def parse_resources(text: str) -> Resources:
    """Read the log `slurm-resources-info`.

    Raises:
        UnreadableAnswer: It is no YAML of that form.
    """
    try:
        return Resources.model_validate(_load_mapping(text))
    except ValidationError as error:
        raise UnreadableAnswer(
            f"resources: {error.errors()[0]['msg']} in {text[:200]!r}"
        ) from error


def parse_queue(text: str) -> dict[str, QueuedJob]:
    """Read the log `slurm-queue-info`: the jobs by their id.

    A job that cannot be read is left out; it costs the others nothing.

    Raises:
        UnreadableAnswer: It is no YAML mapping.
    """
    jobs: dict[str, QueuedJob] = {}
    for job_id, fields in _load_mapping(text).items():
        try:
            jobs[str(job_id)] = QueuedJob.model_validate(fields)
        except ValidationError:
            continue
    jobs.pop("", None)
    return jobs


_ENTRY = re.compile(r"^(?=[\w'\"])", re.MULTILINE)


def cut_queue(text: str, job_ids: Collection[str]) -> str:
    """Keep those entries of the log `slurm-queue-info` that are for some jobs, with what they say.

    The queue has the jobs of everybody, and YAML of ten thousand takes more than a second to read,
    in which the master does nothing else. What is not in the usual form, an entry to each line that
    is not indented, is kept whole.
    """
    head, *entries = _ENTRY.split(text)
    if head.strip() not in ("", "---"):
        return text
    return "".join(entry for entry in entries if entry.partition(":")[0].strip(" '\"\n") in job_ids)


def parse_status(answer: object) -> DispatchStatus:
    """Read a DispatchInfo.

    Raises:
        UnreadableAnswer: It is none.
    """
    try:
        return DispatchStatus.model_validate(answer)
    except ValidationError as error:
        raise UnreadableAnswer(f"no dispatch info: {str(answer)[:200]!r}") from error


_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Leaves every word as it is written: a job id such as 123_4 is no number, and a job's name that
looks like a date need not be one."""


def _load_mapping(text: str) -> Mapping[str, Any]:
    try:
        loaded: Any = yaml.load(text, Loader=_Loader)  # noqa: S506 (it makes texts only)
    except yaml.YAMLError as error:
        raise UnreadableAnswer(f"not YAML: {text[:200]!r}") from error
    if loaded in (None, "", "null"):
        return {}
    if not isinstance(loaded, dict):
        raise UnreadableAnswer(f"no mapping: {text[:200]!r}")
    return cast("Mapping[str, Any]", loaded)
