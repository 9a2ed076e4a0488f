"""Parts of a configuration put over each other, by Determined's rules.

What is higher counts, section by section; mappings are merged, lists mostly replaced. The table
has those that are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeGuard, TypeVar

from shipway_common.settings import Settings
from shipway_master.experiments.config.model import Part
from shipway_master.experiments.config.sections import ExperimentResources
from shipway_master.experiments.config.storage import merge_storages
from shipway_master.tasks.defaults import TaskContainerDefaults
from shipway_master.tasks.logpolicy import merge_log_policies
from shipway_master.tasks.model import Environment, EnvironmentVariables, SlurmOptions

_Model = TypeVar("_Model", bound=Settings)
_Rule = Callable[[Any, Any], Any]

_COMMON_OF_SEARCHERS: Final = (
    *("metric", "smaller_is_better"),
    *("source_trial_id", "source_checkpoint_uuid"),
)


def merge_parts(high: _Model, low: _Model) -> _Model:
    """Put *high* over *low*; what neither has stays unset."""
    values: dict[str, Any] = {}
    for name in type(high).model_fields:
        if name not in high.model_fields_set:
            if name in low.model_fields_set:
                values[name] = getattr(low, name)
        elif name not in low.model_fields_set:
            values[name] = getattr(high, name)
        else:
            values[name] = _merge_values(name, getattr(high, name), getattr(low, name))
    return type(high).model_construct(set(values), **values)


def _merge_values(name: str, high: Any, low: Any) -> Any:
    rule = _RULES.get(name)
    if rule is not None:
        return rule(high, low)
    if isinstance(high, Settings) and isinstance(low, type(high)):
        return merge_parts(high, low)
    return high


def merge_defaults(part: Part, defaults: TaskContainerDefaults) -> Part:
    """Put *part* over the defaults of its pool; their options for sbatch come before its own."""
    merged = merge_parts(part, _read_defaults(defaults))
    slurm = SlurmOptions.overridden(defaults.slurm, part.slurm)
    return merged.model_copy(update={"slurm": slurm})


def _read_defaults(defaults: TaskContainerDefaults) -> Part:
    """Say as a part of an experiment what the defaults mean for it."""
    environment: dict[str, Any] = {
        "image": defaults.image,
        "environment_variables": defaults.environment_variables,
        "registry_auth": defaults.registry_auth,
        "force_pull_image": defaults.force_pull_image,
        "add_capabilities": defaults.add_capabilities,
        "drop_capabilities": defaults.drop_capabilities,
    }
    values: dict[str, Any] = {
        "resources": _construct(ExperimentResources, {"devices": defaults.devices}),
        "environment": _construct(Environment, environment),
        "bind_mounts": defaults.bind_mounts,
        "log_policies": defaults.log_policies,
        "preemption_timeout": defaults.preemption_timeout,
    }
    return _construct(Part, values)


def _construct(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    given = {key: value for key, value in values.items() if value not in (None, (), [])}
    return model.model_construct(set(given), **given)


def _merge_deep(high: Any, low: Any) -> Any:
    """Merge mappings all the way down; null gives way, as what has no value."""
    if high is None:
        return low
    if not (_is_mapping(high) and _is_mapping(low)):
        return high
    merged = {key: _merge_deep(value, low.get(key)) for key, value in high.items()}
    return {**{key: value for key, value in low.items() if key not in high}, **merged}


def _merge_hyperparameters(high: Any, low: Any) -> Any:
    """Merge names all the way down to hyperparameters, which are replaced as a whole."""
    if not (_is_mapping(high) and _is_mapping(low)) or "type" in high or "type" in low:
        return high
    merged = {
        key: _merge_hyperparameters(value, low[key]) if key in low else value
        for key, value in high.items()
    }
    return {**{key: value for key, value in low.items() if key not in high}, **merged}


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _merge_searchers(high: Mapping[str, Any], low: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two searchers of one name; of another one only what all have counts."""
    if high.get("name") is not None and low.get("name") not in (None, high["name"]):
        low = {key: value for key, value in low.items() if key in _COMMON_OF_SEARCHERS}
    return {**low, **high}


def _join_by(key: str) -> _Rule:
    """Put the lower list after the higher, without what the higher has under the same *key*."""

    def join(high: Sequence[Any], low: Sequence[Any]) -> list[Any]:
        known = {getattr(one, key) for one in high}
        return [*high, *(one for one in low if getattr(one, key) not in known)]

    return join


def _extend(high: EnvironmentVariables, low: EnvironmentVariables) -> EnvironmentVariables:
    return low.extended(high)


def _replace(high: Any, low: Any) -> Any:
    return high


_RULES: Final[Mapping[str, _Rule]] = {
    "bind_mounts": _join_by("container_path"),
    "devices": _join_by("container_path"),
    "proxy_ports": _join_by("proxy_port"),
    "environment_variables": _extend,
    "log_policies": merge_log_policies,
    "labels": lambda high, low: list(dict.fromkeys([*high, *low])),
    "ports": lambda high, low: {**low, **high},
    "registry_auth": _replace,
    "data": _merge_deep,
    "hyperparameters": _merge_hyperparameters,
    "searcher": _merge_searchers,
    "checkpoint_storage": merge_storages,
}
"""By the name of the field."""
