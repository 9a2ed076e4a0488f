"""The trials of a search, as far as it remembers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from shipway_master.searchers.actions import EarlyExit, Shutdown


@dataclass(slots=True, kw_only=True)
class Trial:
    """What is remembered of a trial; its number is its place in the list of all."""

    request_id: str
    bracket: int
    is_created: bool = False
    """Whether somebody said that there is such a trial now."""
    is_stopped: bool = False
    """Whether it was asked to end."""
    early_exit: str | None = None
    is_replaced: bool = False
    """Whether another one takes its place, so that it does not count."""
    has_ended: bool = False
    progress: float = 0.0

    def to_plain(self) -> dict[str, Any]:
        """Write it as data; what is as at its beginning is left out, for there may be thousands."""
        plain: dict[str, Any] = {"request_id": self.request_id, "bracket": self.bracket}
        for name, default in _BEGINNING.items():
            value = getattr(self, name)
            if value != default:
                plain[name] = value
        return plain


_BEGINNING: Final = {
    field.name: field.default for field in fields(Trial) if field.default is not MISSING
}


def conclude(trials: Sequence[Trial]) -> Shutdown:
    """Say how a search ended whose trials all have."""
    exits = [trial.early_exit for trial in trials]
    if all(one == EarlyExit.USER_CANCELED for one in exits):
        return Shutdown(cancel=True)
    if all(one == EarlyExit.ERRORED for one in exits):
        return Shutdown(
            failure=True,
            reason="the trial failed" if len(exits) == 1 else f"all {len(exits)} trials failed",
        )
    no_result = (EarlyExit.ERRORED, EarlyExit.INVALID_HP)
    if any(trial.is_replaced for trial in trials) and all(one in no_result for one in exits):
        reason = f"none of {len(exits)} trials gave a result: they failed, or said that their "
        return Shutdown(failure=True, reason=reason + "hyperparameters are invalid")
    return Shutdown()
