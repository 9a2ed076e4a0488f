"""What the agent offers, and what it offered last, kept for a restart in the middle of work.

A master takes an agent that comes back with other devices for another machine, and gives up what
runs there. So while containers are here, the agent goes on to offer what it offered when they
started, whatever has become of a device meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import (
    SlotOptions,
    describe_problems,
    detect_slots,
    require_usable,
)
from shipway_agent.slots.slot import Detection, Slot
from shipway_agent.slots.watch import SlotWatch
from shipway_common.files import write_atomic

log = logging.getLogger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferStore:
    """The file. Both methods block: call them in a thread."""

    file: Path
    agent_id: str

    def save(self, slots: Sequence[Slot]) -> None:
        """Write down what is offered.

        Raises:
            OSError: It could not be written.
        """
        offered = [asdict(replace(slot, problem=None, checks={})) for slot in slots]
        document: Any = {"version": _VERSION, "agent_id": self.agent_id, "offered": offered}
        write_atomic(self.file, json.dumps(document, indent=1).encode("ascii"))

    def load(self) -> tuple[Slot, ...] | None:
        """Return what this agent offered last; None if that is not known."""
        document = self._read()
        try:
            if document is None or document["agent_id"] != self.agent_id:
                return None
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']} is not {_VERSION}")
            return tuple(_read_slot(slot) for slot in document["offered"])
        except (KeyError, TypeError, ValueError) as error:
            log.error("what was offered last cannot be read: %s: %r", self.file, error)
            return None

    def _read(self) -> Any:
        try:
            return json.loads(self.file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("what was offered last cannot be read: %s: %r", self.file, error)
            return None


def _read_slot(members: Any) -> Slot:
    aliases: tuple[str, ...] = tuple(members.pop("aliases"))
    return Slot(**members, aliases=aliases)


async def begin_watch(options: SlotOptions, store: OfferStore, *, in_use: bool) -> SlotWatch:
    """Find the devices of this machine and decide which are offered.

    Args:
        in_use: Whether there are containers of this agent, which its devices must not change under.

    Raises:
        SlotsUnknown: They cannot be told, or none is fit for use, and nothing runs that would have
            to be kept in spite of it.
    """
    offered = await asyncio.to_thread(store.load) if in_use else None
    found: Detection | str
    try:
        detection = await detect_slots(options, is_strict=offered is None)
        _log_found(detection)
        if offered is None:
            require_usable(detection)
        found = detection
    except SlotsUnknown as error:
        if offered is None:
            raise
        found = str(error)
        log.error("the devices cannot be told, but containers use them: %s", error)
    watch = SlotWatch(options, found, offered=offered)
    try:
        await asyncio.to_thread(store.save, watch.offered)
    except OSError as error:
        log.error("what is offered cannot be written to %s: %s", store.file, error)
    return watch


def _log_found(found: Detection) -> None:
    for text in (*found.notes, *describe_problems(found)):
        log.warning("%s", text)
    log.info(
        "slots detected",
        extra={
            "slots": len(found.usable),
            "brands": sorted({slot.brand for slot in found.usable}),
            **{name.lower().replace(" ", "_"): text for name, text in found.versions.items()},
        },
    )
