"""What becomes of an agent's containers after it was away: pure rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shipway_master.agents.agent import PlacedContainer
from shipway_master.agents.messages import Reattached
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.ids import ResourcesId
from shipway_master.allocations.life import ResourcesState


class Fate(StrEnum):
    """What the agent's answer means for one container."""

    LIVES = "lives"
    ENDED = "ended"
    NEVER_ARRIVED = "never arrived"
    """The order to start it got lost on the way; it can be given again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One container's fate."""

    container_id: ResourcesId
    fate: Fate
    state: ResourcesState = ResourcesState.UNKNOWN
    """Of one that lives."""
    failure: Failure | None = None
    """Of one that ended; none there means that it ended well."""


def judge(
    asked: Iterable[ResourcesId],
    containers: Mapping[ResourcesId, PlacedContainer],
    answers: Sequence[Reattached],
) -> list[Verdict]:
    """Judge each container that the agent was asked about.

    One that has come further meanwhile lives on. One whose end was not a success is never taken
    for one: only an answer that says TERMINATED without a failure is a success.
    """
    answered = {answer.container.id: answer for answer in answers}
    return [
        _judge_one(containers[container_id], answered.get(container_id))
        for container_id in asked
        if container_id in containers
    ]


def _judge_one(container: PlacedContainer, answer: Reattached | None) -> Verdict:
    if answer is None:
        failure = Failure(
            type=FailureType.AGENT_FAILED, message="failed to reattach container on reconnect"
        )
        return Verdict(container_id=container.id, fate=Fate.ENDED, failure=failure)
    if answer.container.state is ResourcesState.TERMINATED:
        return Verdict(container_id=container.id, fate=Fate.ENDED, failure=answer.failure)
    if answer.failure is not None:
        failure = answer.failure
        never_seen = container.state is ResourcesState.ASSIGNED
        is_gone = answer.failure.type is FailureType.RESTORE_ERROR
        if never_seen and is_gone and not container.is_overdue:
            if container.order is not None:
                return Verdict(container_id=container.id, fate=Fate.NEVER_ARRIVED)
            # Given before this master was started, which does not have the order any more.
            failure = Failure(
                type=FailureType.RESOURCES_ABORTED,
                message="the order to start it never reached the agent",
            )
        return Verdict(container_id=container.id, fate=Fate.ENDED, failure=failure)
    return Verdict(container_id=container.id, fate=Fate.LIVES, state=answer.container.state)
