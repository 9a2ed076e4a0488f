"""Shares of jobs: who gets slots, and who must leave so that shares become fair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shipway_master.agents.fairshare import decide_fairly
from shipway_master.agents.fitting import Room, Want
from shipway_master.agents.queue import Decisions, Holding, Waiting
from shipway_master.allocations.ids import AgentId, AllocationId

START = datetime(2026, 1, 1, tzinfo=UTC)
A = AgentId("a")


def waiting(name: str, slots: int = 1, *, minute: int = 0, weight: float = 1.0) -> Waiting:
    """A request of the job that its name begins with: `job.run`."""
    return Waiting(
        allocation_id=AllocationId(name),
        want=Want(key=name, slots=slots, is_single_agent=True),
        priority=42,
        submitted_at=START + timedelta(minutes=minute),
        group=name.partition(".")[0],
        weight=weight,
    )


def holding(
    name: str,
    slots: int = 1,
    *,
    minute: int = 0,
    weight: float = 1.0,
    preemptible: bool = True,
    leaving: bool = False,
    agent: AgentId = A,
) -> Holding:
    """A request with resources."""
    return Holding(
        allocation_id=AllocationId(name),
        placement={agent: slots},
        priority=42,
        submitted_at=START + timedelta(minutes=minute),
        is_preemptible=preemptible,
        is_leaving=leaving,
        group=name.partition(".")[0],
        weight=weight,
    )


def decide(
    wait: Sequence[Waiting], hold: Sequence[Holding] = (), *, slots: int = 4, aux: int = 2
) -> Decisions:
    """Decide on one agent."""
    used = sum(one.slots for one in hold if A in one.placement)
    room = Room(agent_id=A, slots=slots, free_slots=slots - used, aux_total=aux, free_aux=aux)
    return decide_fairly(wait, hold, [room])


def trials(job: str, count: int, *, weight: float = 1.0, minute: int = 0) -> list[Waiting]:
    """Many requests of one job."""
    return [waiting(f"{job}.{number}", weight=weight, minute=minute) for number in range(count)]


def test_jobs_share_alike() -> None:
    started = decide([*trials("a", 9), *trials("b", 9, minute=5)]).start
    assert sorted(started) == ["a.0", "a.1", "b.0", "b.1"]


def test_shares_are_in_proportion_to_weights() -> None:
    started = decide([*trials("a", 9, weight=3), *trials("b", 9)]).start
    assert sorted(started) == ["a.0", "a.1", "a.2", "b.0"]


def test_what_a_job_does_not_want_is_the_others() -> None:
    started = decide([*trials("a", 1), *trials("b", 9)]).start
    assert sorted(started) == ["a.0", "b.0", "b.1", "b.2"]


def test_the_older_of_two_gets_what_cannot_be_shared() -> None:
    assert list(decide([waiting("new", 4, minute=1), waiting("old", 4)]).start) == ["old"]


def test_what_fits_does_not_wait_for_what_does_not() -> None:
    started = decide([waiting("small"), waiting("big", 4, minute=1)]).start
    assert list(started) == ["small"]


def test_a_job_above_its_share_lets_its_newest_go() -> None:
    hold = [holding(f"a.{number}", minute=number) for number in range(4)]
    decisions = decide(trials("b", 4, minute=9), hold)
    assert decisions.preempt == ["a.3", "a.2"]
    assert not decisions.start


def test_nobody_leaves_where_shares_are_fair() -> None:
    hold = [holding("a.0"), holding("a.1"), holding("b.0"), holding("b.1")]
    decisions = decide([*trials("a", 4, minute=1), *trials("b", 4, minute=1)], hold)
    assert decisions == Decisions()


def test_who_is_about_to_leave_is_waited_for() -> None:
    hold = [
        *(holding(f"a.{number}", minute=number) for number in (0, 1)),
        *(holding(f"a.{number}", minute=number, leaving=True) for number in (2, 3)),
    ]
    assert decide(trials("b", 4, minute=9), hold) == Decisions()


def test_what_may_not_be_stopped_counts_as_share_and_stays() -> None:
    hold = [holding("a.0", 3, preemptible=False), holding("a.1", minute=1)]
    decisions = decide([waiting("b.0", minute=2), waiting("a.2", minute=2)], hold)
    assert decisions.preempt == ["a.1"]


def test_what_can_never_be_placed_holds_no_share() -> None:
    """Eight slots are there, but not on one agent."""
    b = AgentId("b")
    rooms = [
        Room(agent_id=agent, slots=4, free_slots=free, aux_total=1, free_aux=1)
        for agent, free in ((A, 1), (b, 4))
    ]
    hold = [holding("x.0", 3, preemptible=False)]
    wait = [waiting("big", 8), *trials("y", 9, minute=1)]
    assert sorted(decide_fairly(wait, hold, rooms).start) == [f"y.{number}" for number in range(5)]


def test_what_stands_on_a_draining_agent_makes_no_room() -> None:
    hold = [holding("a.0", 4, agent=AgentId("draining")), holding("a.1", 4, minute=1)]
    decisions = decide([waiting("b.0", 4, minute=2)], hold)
    assert decisions.preempt == ["a.1"]


def test_containers_without_slots_start_wherever_they_fit() -> None:
    started = decide([waiting(f"n{number}", 0, minute=number) for number in range(3)], aux=2).start
    assert list(started) == ["n0", "n1"]
