"""Keeps an eye on the devices that are offered."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import SlotOptions, detect_slots, looks_unchanged
from shipway_agent.slots.slot import Detection, Slot
from shipway_agent.slots.traces import find_amd_traces, find_nvidia_traces

log = logging.getLogger(__name__)

_MOST_GLANCES = 9
"""Cheap looks between two whole ones, where there are such."""
_NOT_LISTED = "the driver does not list it any more"


class SlotWatch:
    """Knows which slots are offered, and of each whether it is fit for use now.

    What is offered never changes here: to the master a changed list means a different agent, which
    may only come when nothing runs. `differs` tells that the time has come to ask for that.
    """

    def __init__(
        self, options: SlotOptions, found: Detection | str, *, offered: Sequence[Slot] | None = None
    ) -> None:
        """Begin with what was found.

        Args:
            found: What was found, or in words why that cannot be told.
            offered: What to offer; unless given, what of *found* is fit for use.
        """
        self._options = options
        usable = () if isinstance(found, str) else found.usable
        self.offered: tuple[Slot, ...] = usable if offered is None else tuple(offered)
        self.differs = asyncio.Event()
        """Set while other devices should be offered, in two looks in a row."""
        self.on_change: Callable[[], None] = lambda: None
        """Called when a device becomes unfit for use, or fit again."""
        self._problems: dict[str, str] = {}
        self._is_patient = False
        self._glances = 0
        self._looks = deque([frozenset(slot.uuid for slot in usable)], maxlen=2)
        """What was usable in the last two looks."""
        self._take(found)

    def problem(self, uuid: str) -> str | None:
        """Say why the offered device *uuid* should not be used now; None: nothing is known."""
        return self._problems.get(uuid)

    def problems(self) -> dict[int, str]:
        """Return the problems of the offered devices, by their ids."""
        return {
            slot.id: self._problems[slot.uuid]
            for slot in self.offered
            if slot.uuid in self._problems
        }

    def be_patient(self, is_patient: bool) -> None:
        """Say whether the master hears of unfit devices.

        It then gives them no work, and `differs` is only set for devices that could be offered and
        are not.
        """
        self._is_patient = is_patient
        self._compare()

    async def run(self, *, interval_s: float) -> None:
        """Look again and again; returns at once if the slots are no devices that can break."""
        if not self._options.asks_driver:
            return
        while True:
            await asyncio.sleep(interval_s)
            if self._has_gpus or await asyncio.to_thread(self._sees_driver):
                await self.look()

    async def look(self) -> None:
        """Ask for the devices once, and log what changed."""
        is_quiet = not self._problems and not self.differs.is_set()
        if is_quiet and self._glances < _MOST_GLANCES:
            self._glances += 1
            if await looks_unchanged(self._options, self.offered):
                return
        self._glances = 0
        try:
            found: Detection | str = await detect_slots(self._options, is_strict=False)
        except SlotsUnknown as error:
            found = str(error)
        self._take(found)

    @property
    def _has_gpus(self) -> bool:
        return any(slot.type != "cpu" for slot in self.offered)

    def _sees_driver(self) -> bool:
        """Say whether a machine that offers its CPU has a GPU's driver by now; asks nobody."""
        root = self._options.root
        return bool(find_nvidia_traces(root).driver or find_amd_traces(root).driver)

    def _take(self, found: Detection | str) -> None:
        before = dict(self._problems)
        for slot in self.offered:
            self._note(slot, _find_problem(slot, found))
        if isinstance(found, Detection):
            self._looks.append(frozenset(slot.uuid for slot in found.usable))
        elif self._has_gpus:
            self._looks.append(frozenset())
        self._compare()
        if self._problems != before:
            self.on_change()

    def _compare(self) -> None:
        offered = frozenset(slot.uuid for slot in self.offered)
        if all(usable - offered for usable in self._looks) or (
            not self._is_patient and all(usable != offered for usable in self._looks)
        ):
            if not self.differs.is_set():
                log.warning(
                    "other devices could be offered, which waits until nothing runs here",
                    extra={"offered": len(offered), "usable": len(self._looks[-1])},
                )
            self.differs.set()
        else:
            self.differs.clear()

    def _note(self, slot: Slot, problem: str | None) -> None:
        before = self._problems.get(slot.uuid)
        about: Mapping[str, object] = {"device": slot.uuid, "slot": slot.id}
        if problem is None:
            if before is not None:
                del self._problems[slot.uuid]
                log.info("device is fit for use again", extra=about)
        elif problem != before:
            self._problems[slot.uuid] = problem
            log.error("device is not fit for use", extra={**about, "problem": problem})


def _find_problem(slot: Slot, found: Detection | str) -> str | None:
    """Say what is wrong with an offered device, by what was found now."""
    if slot.type == "cpu":
        return None
    if isinstance(found, str):
        return found
    everything = (*found.slots, *found.hidden)
    for seen in everything:
        if seen.uuid == slot.uuid:
            return seen.problem
    # One that does not even tell who it is can only be known by its place.
    for seen in everything:
        if not seen.uuid and seen.gpu_index == slot.gpu_index and seen.problem:
            return seen.problem
    return _NOT_LISTED
