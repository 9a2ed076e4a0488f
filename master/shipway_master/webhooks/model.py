"""What a webhook is, and which events it hears of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What a call looks like."""

    DEFAULT = "DEFAULT"
    """The event as JSON, signed."""
    SLACK = "SLACK"
    """A message as Slack takes it."""


class Mode(StrEnum):
    """Whose events count."""

    WORKSPACE = "WORKSPACE"
    """Those of all experiments in the workspace."""
    SPECIFIC = "SPECIFIC"
    """Those of experiments that name the webhook."""


class TriggerKind(StrEnum):
    """What a webhook can wait for."""

    EXPERIMENT_STATE_CHANGE = "EXPERIMENT_STATE_CHANGE"
    TASK_LOG = "TASK_LOG"
    """A line of a task's log that a regular expression finds."""
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """Something that a webhook waits for."""

    id: int = 0
    kind: TriggerKind
    condition: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An address, and what makes the master call it."""

    id: int = 0
    name: str
    url: str = field(repr=False)
    """May hold a secret, as Slack's do."""
    kind: Kind
    mode: Mode
    workspace_id: int | None
    triggers: Sequence[Trigger]

    def hears_of(self, audience: Audience) -> bool:
        """Whether what happens there is for this webhook."""
        if audience.is_excluded or self.workspace_id not in (None, audience.workspace_id):
            return False
        return self.mode is Mode.WORKSPACE or bool(audience.named & {self.name, self.id})

    def find_trigger(self, event: Event) -> Trigger | None:
        """The trigger that an event sets off; None if it is not for this webhook."""
        if not self.hears_of(event.subject.audience):
            return None
        for trigger in self.triggers:
            state = trigger.condition.get("state")
            if trigger.kind is event.kind and state in (None, event.state):
                return trigger
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who may hear of an experiment or another task."""

    workspace_id: int
    named: frozenset[str | int] = frozenset()
    """Names and ids of the webhooks that an experiment's configuration names."""
    is_excluded: bool = False
    """The experiment wants no webhook to hear of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The experiment that an event is about."""

    id: int
    name: str
    state: str
    slots_per_trial: int
    duration_s: int
    resource_pool: str
    workspace: str
    project: str
    audience: Audience


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What an experiment's own code says."""

    title: str
    description: str
    level: str
    trial_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to an experiment."""

    kind: TriggerKind
    subject: Subject
    state: str | None = None
    """The new one, where it has changed."""
    alert: Alert | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLine:
    """A line of a task's log that a webhook waits for."""

    task_id: str
    node: str
    text: str
