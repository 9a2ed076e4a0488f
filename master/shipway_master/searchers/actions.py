"""What a search wants done, and what it is told about the ends of trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Start a trial."""

    request_id: UUID
    """Chosen here; it names the trial from now on."""
    seed: int
    """For the training code, below 2**31."""
    hparams: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Ask a trial to end, which then counts as completed."""

    request_id: UUID
    reason: str = "the searcher has seen enough of it"
    """For the trial's log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """End the experiment: as completed, unless it says otherwise."""

    cancel: bool = False
    """As cancelled: the user cancelled each trial."""
    failure: bool = False
    """As failed."""
    reason: str = ""
    """Why it failed, for people."""


Action = Create | Stop | Shutdown


class EarlyExit(StrEnum):
    """Why a trial ended before its time."""

    ERRORED = "ERRORED"
    """It failed as often as it may."""
    USER_CANCELED = "USER_CANCELED"
    """The user ended it."""
    INVALID_HP = "INVALID_HP"
    """It said itself that its hyperparameters make no sense."""
