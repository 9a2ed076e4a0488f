"""Keeps an eye on the devices that are offered."""

from __future__ import annotations

import asyncio
import logging

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import SlotOptions, detect_slots
from shipway_agent.slots.slot import Detection, Slot

log = logging.getLogger(__name__)


class SlotWatch:
    """Knows which slots are offered, and of each whether it is fit for use now.

    What is offered never changes here: to the master a changed list means a different agent, which
    may only come when nothing runs. `differs` tells that the time has come to ask for that.
    """

    def __init__(self, options: SlotOptions, detection: Detection) -> None:
        self._options = options
        self.offered: tuple[Slot, ...] = detection.usable
        self._problems: dict[str, str] = {}
        self.differs = asyncio.Event()
        """Set while the usable devices are others than the offered ones, in two looks in a row."""
        self._differed_before = False

    def problem(self, uuid: str) -> str | None:
        """Say why the offered device *uuid* should not be used now; None: nothing is known."""
        return self._problems.get(uuid)

    async def run(self, *, interval_s: float) -> None:
        """Look again and again; returns at once if the slots are no devices that can break."""
        if not self._options.asks_driver or not any(slot.type == "cuda" for slot in self.offered):
            return
        while True:
            await asyncio.sleep(interval_s)
            await self.look()

    async def look(self) -> None:
        """Ask for the devices once, and log what changed."""
        try:
            detection = await detect_slots(self._options)
        except SlotsUnknown as error:
            found: dict[str, Slot] = {}
            missing = str(error)
        else:
            found = {slot.uuid: slot for slot in detection.slots if slot.uuid}
            missing = "; ".join(detection.notes) or "the driver does not list it any more"
        for slot in self.offered:
            seen = found.get(slot.uuid)
            self._note(slot, missing if seen is None else seen.problem)
        usable = {uuid for uuid, slot in found.items() if slot.problem is None}
        differs = usable != {slot.uuid for slot in self.offered}
        if differs and self._differed_before:
            self.differs.set()
        elif not differs:
            self.differs.clear()
        self._differed_before = differs

    def _note(self, slot: Slot, problem: str | None) -> None:
        before = self._problems.get(slot.uuid)
        if problem is None:
            if before is not None:
                del self._problems[slot.uuid]
                log.info("device is fit for use again", extra={"device": slot.uuid})
        elif problem != before:
            self._problems[slot.uuid] = problem
            log.error("device is not fit for use", extra={"device": slot.uuid, "problem": problem})
