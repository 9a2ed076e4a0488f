"""Metric groups: their kinds, and where their summary is kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Protocol

from shipway_master.errors import InvalidArgument
from shipway_proto.determined.api.v1.experiment_pb2 import MetricType

TRAINING: Final = "training"
VALIDATION: Final = "validation"
PROFILER_GROUPS: Final = frozenset({"gpu", "cpu", "memory", "disk", "network"})

_LENGTH_LIMIT = 255
_KEYS = {TRAINING: "avg_metrics", VALIDATION: "validation_metrics"}
_GROUPS = {key: group for group, key in _KEYS.items()}


class Kind(StrEnum):
    """What groups are alike when a newer run goes over the same steps again."""

    TRAINING = "training"
    VALIDATION = "validation"
    PROFILER = "profiler"
    GENERIC = "generic"


def kind_of(group: str) -> Kind:
    """Tell the kind of *group*."""
    if group in _KEYS:
        return Kind(group)
    return Kind.PROFILER if group in PROFILER_GROUPS else Kind.GENERIC


def key_of_group(group: str) -> str:
    """Name the entry of *group* in the summary of a trial, which for two of them is an old name."""
    return _KEYS.get(group, group)


def group_of_key(key: str) -> str:
    """Undo `key_of_group`."""
    return _GROUPS.get(key, key)


def check_group(group: str) -> None:
    """Raise InvalidArgument unless *group* may be the name of one."""
    if not group:
        raise InvalidArgument("the metric group has no name")
    if "." in group:
        raise InvalidArgument(f"metric group {group[:80]!r}: a name has no dots")
    if group in _GROUPS:
        raise InvalidArgument(f"metric group {group!r}: the name means {_GROUPS[group]!r}")
    if len(group) > _LENGTH_LIMIT or not group.isprintable():
        raise InvalidArgument(
            f"metric group {group[:80]!r}: a name has up to {_LENGTH_LIMIT} printable characters"
        )


class GroupRequest(Protocol):
    """A request about a group, which it may still name by an old type."""

    @property
    def group(self) -> str:
        """Its name."""
        ...

    @property
    def metric_type(self) -> MetricType.ValueType:
        """Its type, where there is no name."""
        ...


def groups_of_request(request: GroupRequest) -> frozenset[str]:
    """Tell which groups a request is about; no names at all mean every group."""
    if request.group:
        return frozenset({request.group})
    match request.metric_type:
        case MetricType.METRIC_TYPE_TRAINING:
            return frozenset({TRAINING})
        case MetricType.METRIC_TYPE_VALIDATION:
            return frozenset({VALIDATION})
        case MetricType.METRIC_TYPE_PROFILING:
            return PROFILER_GROUPS
        case _:
            return frozenset()
