"""The section `searcher` of an experiment configuration: a model for each search method.

Keys and defaults are those of Determined 0.38.1. A key with null in it counts as left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from shipway_common.settings import Settings
from shipway_master.searchers.numbers import INT32_MAX, INT64_MAX, Number, WholeNumber

LENGTH_UNITS: Final = ("batches", "records", "epochs")
MAX_RUNGS: Final = 100
"""More rungs than this no search has."""

_LEFT_OUT_WHEN_UNSET: Final = ("max_length", "stop_once")
_REMOVED: Final = {
    "custom": "the master of this version decides by itself which trials there are; take another "
    "searcher, or start a single experiment for each trial from your own program",
    "adaptive": "use adaptive_asha",
    "adaptive_simple": "use adaptive_asha",
    "sync_halving": "use async_halving",
    "pbt": "use adaptive_asha",
}

TrialCount = Annotated[WholeNumber, Field(ge=1, le=INT32_MAX)]
AtOnce = Annotated[WholeNumber, Field(ge=0)]
RungCount = Annotated[WholeNumber, Field(ge=1, le=MAX_RUNGS)]


def _read_length(value: object) -> object:
    """Check a deprecated length: a number, or a mapping of one unit to a number."""
    hint = "write a whole number, or one of batches, records and epochs with a number above 0"
    if isinstance(value, Mapping):
        items = list(cast("Mapping[object, object]", value).items())
        if len(items) != 1 or items[0][0] not in LENGTH_UNITS:
            raise ValueError(f"no length: {hint}")
        unit, number = items[0]
        return {unit: _length_number(number, at_least=1, hint=hint)}
    return _length_number(value, at_least=0, hint=hint)


def _length_number(value: object, *, at_least: int, hint: str) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"no length: {hint}")
    if not at_least <= value <= INT64_MAX:
        raise ValueError(f"no length: {hint}")
    return value


Length = Annotated[Mapping[str, int] | int, BeforeValidator(_read_length)]


class _Searcher(Settings):
    """What all search methods have."""

    metric: str = Field(
        min_length=1, description="The validation metric that says how good a trial is."
    )
    smaller_is_better: bool = Field(
        default=True, strict=True, description="Whether a smaller metric is better."
    )
    source_trial_id: Annotated[WholeNumber, Field(ge=1)] | None = Field(
        default=None, description="All trials begin with the newest checkpoint of this trial."
    )
    source_checkpoint_uuid: str | None = Field(
        default=None, min_length=1, description="All trials begin with this checkpoint."
    )
    max_length: Length | None = Field(
        default=None, description="Deprecated: handed to the training code, and nothing else."
    )

    @model_validator(mode="after")
    def _check_source(self) -> _Searcher:
        if self.source_trial_id is not None and self.source_checkpoint_uuid is not None:
            raise ValueError("give source_trial_id or source_checkpoint_uuid, not both")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = write(self)
        unset = {key for key in _LEFT_OUT_WHEN_UNSET if plain.get(key) is None}
        return {"name": plain["name"]} | {k: v for k, v in plain.items() if k not in unset}


class SingleConfig(_Searcher):
    """One trial."""

    name: Literal["single"]


class RandomConfig(_Searcher):
    """Trials with randomly chosen hyperparameters."""

    name: Literal["random"]
    max_trials: TrialCount = Field(description="How many trials there are in all.")
    max_concurrent_trials: AtOnce = Field(
        default=16, description="How many there are at a time; 0: all of them."
    )


class GridConfig(_Searcher):
    """A trial for each combination of hyperparameters."""

    name: Literal["grid"]
    max_concurrent_trials: AtOnce = Field(
        default=16, description="How many there are at a time; 0: all of them."
    )


class _Halving(_Searcher):
    """What both methods have that stop trials early."""

    max_trials: TrialCount = Field(description="How many trials there are in all.")
    time_metric: str = Field(
        min_length=1, description="The validation metric that says how far a trial has come."
    )
    max_time: Annotated[WholeNumber, Field(ge=1)] = Field(
        description="What `time_metric` is in a trial that was trained to the end."
    )
    divisor: Annotated[Number, Field(gt=1)] = Field(
        default=4,
        description="One of so many trials goes on at each rung, which is so many times as far as "
        "the one before.",
    )
    max_concurrent_trials: AtOnce = Field(
        default=16, description="How many there are at a time; 0: chosen by the method."
    )
    stop_once: bool | None = Field(
        default=None,
        strict=True,
        description="Deprecated: read and not used; a stopped trial never goes on.",
    )


class AsyncHalvingConfig(_Halving):
    """Asynchronous successive halving."""

    name: Literal["async_halving"]
    num_rungs: RungCount = Field(description="How often a trial is compared, the end included.")


class AdaptiveAshaConfig(_Halving):
    """Several asynchronous halvings that stop trials more and less eagerly."""

    name: Literal["adaptive_asha"]
    mode: Literal["aggressive", "standard", "conservative"] = Field(
        default="standard", description="How eagerly trials are stopped."
    )
    max_rungs: Annotated[WholeNumber, Field(ge=1)] = Field(
        default=5, description="No halving has more rungs."
    )
    bracket_rungs: Annotated[tuple[RungCount, ...], Field(max_length=MAX_RUNGS)] = Field(
        default=(), description="The rungs of each halving, in place of `mode` and `max_rungs`."
    )


_MODELS: Final[Mapping[str, type[_Searcher]]] = {
    "single": SingleConfig,
    "random": RandomConfig,
    "grid": GridConfig,
    "async_halving": AsyncHalvingConfig,
    "adaptive_asha": AdaptiveAshaConfig,
}


def _choose_model(value: object) -> object:
    """Check the section by the model that its `name` means, so that mistakes are told by it."""
    if isinstance(value, _Searcher):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("it must be a mapping with the name of a searcher in it")
    given = cast("Mapping[str, object]", value)
    section = {key: item for key, item in given.items() if item is not None}
    name = section.get("name")
    model = _MODELS.get(name) if isinstance(name, str) else None
    if model is None:
        raise ValueError(_unknown_name(name))
    if issubclass(model, _Halving):
        _refuse_length_alone(section)
    return model.model_validate(section)


def _refuse_length_alone(section: Mapping[str, object]) -> None:
    length = section.get("max_length")
    if length is None or ("time_metric" in section and "max_time" in section):
        return
    unit: object = "batches"
    number = length
    if isinstance(length, Mapping):
        unit, number = next(iter(cast("Mapping[object, object]", length).items()), (unit, 1))
    raise ValueError(
        "max_length does not say any more when trials are compared: give time_metric and "
        f"max_time, such as time_metric: {str(unit)[:80]} and max_time: {str(number)[:80]}"
    )


def _unknown_name(name: object) -> str:
    known = ", ".join(_MODELS)
    if name is None:
        return f"name is missing; it is one of {known}"
    if isinstance(name, str) and name in _REMOVED:
        return f"the '{name}' searcher has been removed: {_REMOVED[name]}"
    near = difflib.get_close_matches(str(name), _MODELS, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return f"there is no searcher {str(name)[:80]!r}: it is one of {known}{guess}"


SearcherConfig = Annotated[
    SingleConfig | RandomConfig | GridConfig | AsyncHalvingConfig | AdaptiveAshaConfig,
    BeforeValidator(_choose_model),
]
"""The section, as the type of a field."""
