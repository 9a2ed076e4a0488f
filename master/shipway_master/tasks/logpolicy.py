"""Log policies: what a line in a trial's log means for the trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from shipway_common.settings import Settings
from shipway_master.errors import InvalidArgument
from shipway_master.logbook.search import pattern_search


def _read_older_form(value: object) -> object:
    """Take `{type: cancel_retries}`, as releases before names of policies had it."""
    if not isinstance(value, Mapping):
        return value
    given = cast("Mapping[str, object]", value)
    return given["type"] if set(given) == {"type"} else given


LogAction = Annotated[Literal["cancel_retries", "exclude_node"], BeforeValidator(_read_older_form)]


class LogPolicy(Settings):
    """What happens when a line of a trial's log matches."""

    name: str | None = Field(
        default=None,
        min_length=1,
        description="What the run is marked with when a line matches; of two policies with one"
        " name, the higher layer's counts.",
    )
    pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2, as in Go) that is looked for in each line; without"
        " one the policy is off, which so turns off a default one.",
    )
    action: LogAction | None = Field(
        default=None,
        description="`cancel_retries`: the trial is not started again; `exclude_node`: it is not"
        " started again on the node that wrote the line.",
    )

    @field_validator("pattern")
    @classmethod
    def _must_be_an_expression(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                pattern_search(value)
            except InvalidArgument as error:
                raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _check_whole(self) -> LogPolicy:
        if self.name is None and (self.pattern is None or self.action is None):
            raise ValueError("a policy needs a name, or (in the older form) pattern and action")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = write(self)
        return {key: value for key, value in plain.items() if value is not None}


def _check_names(policies: Sequence[LogPolicy]) -> Sequence[LogPolicy]:
    names = Counter(one.name for one in policies if one.name is not None)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"two policies have the name {twice[0]!r}")
    return policies


LogPolicies = Annotated[Sequence[LogPolicy], AfterValidator(_check_names)]

DEFAULT_LOG_POLICIES = (
    LogPolicy(name="CUDA OOM", pattern=".*CUDA out of memory.*"),
    LogPolicy(name="ECC Error", pattern=".*uncorrectable ECC error encountered.*"),
)
"""What all trials have that do not turn it off."""


def merge_log_policies(high: Sequence[LogPolicy], low: Sequence[LogPolicy]) -> list[LogPolicy]:
    """Give *high*, then what of *low* has another name (or, without one, is another)."""
    known = {_identity(one) for one in high}
    merged = list(high)
    for policy in low:
        if _identity(policy) not in known:
            known.add(_identity(policy))
            merged.append(policy)
    return merged


def _identity(policy: LogPolicy) -> tuple[str | None, ...]:
    if policy.name is not None:
        return (policy.name,)
    return (None, policy.action, policy.pattern)
