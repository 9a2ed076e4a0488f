"""The warning that Slurm gives a job before its time limit: sbatch's --signal; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.batch.useroptions import Option

_FORM = re.compile(
    r"(?:[RB]+:)?(?:SIG)?(?P<signal>[A-Z][A-Z0-9]*|[0-9]+)(?:@(?P<lead>[0-9]+))?", re.IGNORECASE
)
_DEFAULT_LEAD_S = 60
_SIGUSR1 = ("USR1", "10")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWarning:
    """What a job is sent before its time limit, and when."""

    lead_s: int
    is_usr1: bool


def find_warning(options: Sequence[Option]) -> LimitWarning | None:
    """Read what these options, of which the last one counts, have Slurm send.

    None: nothing, or what only Slurm can read.
    """
    given = [option.value or "" for option in options if option.name == "signal"]
    match = _FORM.fullmatch(given[-1]) if given else None
    if match is None:
        return None
    lead = match["lead"]
    return LimitWarning(
        lead_s=_DEFAULT_LEAD_S if lead is None else int(lead),
        is_usr1=match["signal"].upper() in _SIGUSR1,
    )
