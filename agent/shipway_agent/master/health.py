"""Tells a master that understands it which slots should get no work just now.

An addition of ours to the protocol: `shipway-master` says in its options that it wants to know;
another master is never told, since it might not survive a message that it does not know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from shipway_agent.master.link import Greeting, Obeys
from shipway_agent.master.messages import (
    MasterOptions,
    SignalContainer,
    SlotHealth,
    StartContainer,
)
from shipway_agent.master.outbox import Outbox


class WatchesSlots(Protocol):
    """Who knows the health of the slots."""

    def problems(self) -> Mapping[int, str]:
        """Return why slots should get no work, by their ids."""
        ...

    def be_patient(self, is_patient: bool) -> None:
        """Say whether the master hears of that."""
        ...


class HealthReports:
    """Stands between the link and who obeys, and adds the health of the slots."""

    def __init__(self, agent: Obeys, watch: WatchesSlots, outbox: Outbox) -> None:
        self._agent = agent
        self._watch = watch
        self._outbox = outbox
        self._is_wanted = False
        self.greeted = asyncio.Event()
        """Set once agent and master have agreed on what is here."""

    def greet(self, options: MasterOptions) -> Greeting:
        """See `Obeys.greet`."""
        self._is_wanted = options.wants_slot_health
        self._watch.be_patient(self._is_wanted)
        greeting = self._agent.greet(options)
        self.greeted.set()
        if not self._is_wanted:
            return greeting
        # In the greeting itself: a message of its own would come after the first orders.
        return replace(greeting, started=replace(greeting.started, problems=self._watch.problems()))

    def obey(self, order: StartContainer | SignalContainer) -> None:
        """See `Obeys.obey`."""
        self._agent.obey(order)

    def tell(self) -> None:
        """Tell the master what has changed."""
        if self._is_wanted:
            self._outbox.put(SlotHealth(problems=self._watch.problems()))
