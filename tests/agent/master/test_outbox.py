from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from shipway_agent.containers.state import State
from shipway_agent.master.messages import (
    Container,
    ContainerLog,
    OutputPlace,
    StateChanged,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.runtimes.spec import ContainerId

TIME = datetime(2024, 1, 1, tzinfo=UTC)


def line(text: str, *, end: int | None = None, container: str = "a") -> ContainerLog:
    place = None if end is None else OutputPlace(stream="stdout", end=end)
    return ContainerLog(
        container_id=ContainerId(container), time=TIME, text=text, agent_id="node", output=place
    )


def state(name: State, container: str = "a") -> StateChanged:
    return StateChanged(container=Container(id=ContainerId(container), state=name, devices=()))


async def take_all(outbox: Outbox) -> list[str]:
    """Send what is waiting; returns the texts of its log lines."""
    texts: list[str] = []
    while True:
        try:
            async with asyncio.timeout(0.01):
                entry = await outbox.take()
        except TimeoutError:
            return texts
        log = json.loads(entry.text)["ContainerLog"]
        texts.append(log["AuxMessage"] or log["RunMessage"]["Value"] if log else "state")


async def test_what_was_not_read_is_sent_again_in_order() -> None:
    outbox, read = Outbox(), []
    for number in range(4):
        outbox.put_output(line(str(number), end=number), on_read=lambda n=number: read.append(n))
    assert await take_all(outbox) == ["0", "1", "2", "3"]
    outbox.confirm(2)
    assert read == [0, 1]
    outbox.put_note(line("later"))
    outbox.rewind(lambda message: True)
    assert await take_all(outbox) == ["2", "3", "later"]
    outbox.confirm(outbox.sent_number)
    assert read == [0, 1, 2, 3]
    await outbox.wait_empty()


async def test_a_late_receipt_of_the_former_connection_confirms_nothing_new() -> None:
    outbox, read = Outbox(), []
    outbox.put_output(line("x", end=1), on_read=lambda: read.append("x"))
    await take_all(outbox)
    outbox.rewind(lambda message: True)
    await take_all(outbox)
    outbox.confirm(1)
    assert read == []
    outbox.confirm(2)
    assert read == ["x"]


async def test_what_the_master_has_no_use_for_counts_as_read() -> None:
    outbox, read = Outbox(), []
    outbox.put(state(State.TERMINATED), on_read=lambda: read.append("end"))
    outbox.put_note(line("note"))
    outbox.rewind(lambda message: isinstance(message, ContainerLog))
    assert read == ["end"]
    assert await take_all(outbox) == ["note"]


async def test_output_waits_for_room_and_states_do_not() -> None:
    outbox = Outbox(room_bytes=1000)
    while outbox.has_room:
        outbox.put_output(line("x" * 100, end=1), on_read=lambda: None)
    waiting = asyncio.ensure_future(outbox.wait_room())
    outbox.put(state(State.TERMINATED))
    sent = await take_all(outbox)
    assert len(sent) < 10
    assert sent[-1] == "state"
    assert not waiting.done()
    outbox.confirm(outbox.sent_number)
    await asyncio.wait_for(waiting, 1)


async def test_lines_of_the_agent_beyond_the_limit_leave_a_mark_with_their_number() -> None:
    outbox = Outbox(max_notes=10)
    for number in range(15):
        outbox.put_note(line(f"note {number}"))
    for number in range(3):
        outbox.put_note(line(f"note {number}", container="b"))
    assert await take_all(outbox) == [f"note {number}" for number in range(10)]
    outbox.confirm(outbox.sent_number)
    marks = await take_all(outbox)
    assert [mark.split()[0] for mark in marks] == ["5", "3"]
    assert all("missing here" in mark for mark in marks)


async def test_no_more_is_sent_than_may_be_without_a_receipt() -> None:
    outbox = Outbox(window_bytes=1000)
    for number in range(50):
        outbox.put_note(line(f"note {number}"))
    sent = await take_all(outbox)
    assert 1 < len(sent) < 10
    await asyncio.wait_for(outbox.wait_half_sent(), 1)
    outbox.confirm(outbox.sent_number)
    assert (await take_all(outbox))[0] == f"note {len(sent)}"
