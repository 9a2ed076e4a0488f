"""The states of a checkpoint, and what the news about its files makes of it: pure rules."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class CheckpointState(StrEnum):
    """Whether the files are there; the names are those of the API, without its prefix."""

    COMPLETED = "COMPLETED"
    PARTIALLY_DELETED = "PARTIALLY_DELETED"
    DELETED = "DELETED"


WITH_FILES = (CheckpointState.COMPLETED, CheckpointState.PARTIALLY_DELETED)
"""The states in which there is something to download or to delete."""


def after_removal(
    state: CheckpointState, known: Mapping[str, int], left: Mapping[str, int]
) -> CheckpointState:
    """Say what a checkpoint is of whose *known* files only those in *left* are there."""
    if state is CheckpointState.DELETED or not left:
        return CheckpointState.DELETED
    if known.keys() - left.keys():
        return CheckpointState.PARTIALLY_DELETED
    return state
