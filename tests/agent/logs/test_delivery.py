"""Output to a real gRPC and HTTP server, which refuses, fails and goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from shipway_agent.logs.batch import MAX_LINES
from shipway_agent.logs.journal import Sent
from shipway_agent.runtimes.spec import Chunk
from shipway_proto.determined.log.v1.log_pb2 import LOG_LEVEL_ERROR
from tests.agent.logs.conftest import SOURCE, Shipper, output_of
from tests.agent.logs.stand_in import Code, LogApi


def numbered(count: int) -> tuple[list[str], bytes]:
    texts = [f"line {number}" for number in range(count)]
    return texts, "".join(f"{text}\n" for text in texts).encode()


async def test_lines_come_in_order_with_their_labels(api: LogApi, shipper: Shipper) -> None:
    await shipper.ship(api, output_of(b"plain\n[rank=2] ERROR: ba", b"d\n", stream="stderr"))
    plain, bad = api.lines
    assert (plain.log, bad.log) == ("plain\n", "bad\n")
    assert (bad.rank_id, bad.level) == (2, LOG_LEVEL_ERROR)
    assert not plain.HasField("rank_id")
    assert not plain.HasField("level")
    for line in api.lines:
        assert (line.task_id, line.allocation_id) == (SOURCE.task_id, SOURCE.allocation_id)
        assert (line.agent_id, line.container_id) == (SOURCE.agent_id, SOURCE.container_id)
        assert (line.source, line.stdtype) == ("task", "stderr")
    assert set(api.calls) == {"grpc"}
    assert shipper.delivered == {"stderr": 26}


async def test_much_output_comes_once_and_in_order(api: LogApi, shipper: Shipper) -> None:
    texts, data = numbered(30_000)
    await shipper.ship(api, output_of(*(data[at : at + 9999] for at in range(0, len(data), 9999))))
    assert api.texts == texts
    times = [line.timestamp.ToMicroseconds() for line in api.lines]
    assert times == sorted(times)


async def test_rest_is_taken_where_there_is_no_grpc(shipper: Shipper) -> None:
    texts, data = numbered(3 * MAX_LINES)
    async with LogApi(has_grpc=False) as api:
        await shipper.ship(api, output_of(data, 'día \\ "q"\n'.encode()))
    assert api.texts == [*texts, 'día \\ "q"']
    assert set(api.calls) == {"rest"}


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.UNKNOWN])
async def test_rest_is_taken_where_grpc_never_gets_through(
    api: LogApi, shipper: Shipper, code: Code
) -> None:
    texts, data = numbered(3 * MAX_LINES)
    api.grpc_fails = code
    await shipper.ship(api, output_of(data))
    assert api.texts == texts
    assert api.calls.count("grpc") == 1


async def test_a_lost_answer_is_no_reason_to_leave_grpc(api: LogApi, shipper: Shipper) -> None:
    texts, data = numbered(3 * MAX_LINES)
    api.lost_answers = 1
    await shipper.ship(api, output_of(data))
    assert api.texts == texts
    assert set(api.calls) == {"grpc"}


async def test_an_outage_loses_nothing(api: LogApi, shipper: Shipper) -> None:
    texts, data = numbered(10_000)
    await api.stop()
    async with asyncio.TaskGroup() as group:
        group.create_task(shipper.ship(api, output_of(data)))
        await asyncio.sleep(0.1)  # some tries are refused
        await api.start()
    assert api.texts == texts


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED])
async def test_trouble_of_the_master_is_waited_out(
    api: LogApi, shipper: Shipper, code: Code
) -> None:
    api.answers.extend([code, code])
    await shipper.ship(api, output_of(b"x\n"))
    assert api.texts == ["x"]


async def test_a_batch_whose_answer_was_lost_is_not_sent_again(
    api: LogApi, shipper: Shipper
) -> None:
    texts, data = numbered(3 * MAX_LINES)
    api.lost_answers = 2
    await shipper.ship(api, output_of(data))
    assert api.texts == texts
    assert api.questions == 2


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.INTERNAL])
@pytest.mark.parametrize("has_grpc", [True, False])
async def test_a_line_that_is_refused_is_replaced_by_a_note(
    shipper: Shipper, code: Code, has_grpc: bool
) -> None:
    texts, data = numbered(100)
    async with LogApi(has_grpc=has_grpc) as api:
        api.refuses = lambda line: code if line.log == "line 37\n" else None
        await shipper.ship(api, output_of(data, b"after\n"))
    note = "[shipway: a line of 7 bytes is missing here: the master refused it]"
    assert api.texts == [*texts[:37], note, *texts[38:], "after"]


async def test_a_master_that_fails_for_long_loses_no_line(api: LogApi, shipper: Shipper) -> None:
    texts, data = numbered(3)
    api.answers.extend([Code.INTERNAL] * 12)
    await shipper.ship(api, output_of(data))
    assert api.texts == texts


async def test_a_batch_that_is_too_large_is_sent_in_parts(shipper: Shipper) -> None:
    texts, data = numbered(1000)
    async with LogApi(limit_bytes=20_000) as api:
        await shipper.ship(api, output_of(data))
    assert api.texts == texts


@pytest.mark.parametrize("code", [Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND])
async def test_what_a_refused_token_does_not_bring_goes_another_way(
    api: LogApi, shipper: Shipper, code: Code
) -> None:
    texts, data = numbered(2 * MAX_LINES)
    api.answers.extend([None, code])
    await shipper.ship(api, output_of(data))
    assert api.texts + shipper.other.texts == texts
    assert api.texts
    assert len(shipper.notes) == 1
    assert shipper.delivered == {"stdout": len(data)}


async def test_who_gives_up_gets_the_rest_another_way(api: LogApi, shipper: Shipper) -> None:
    await api.stop()
    async with asyncio.TaskGroup() as group:
        shipping = group.create_task(shipper.ship(api, output_of(b"last words\n")))
        while shipper.delivery is None or not shipper.delivery.is_blocked:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert shipper.delivery.give_up()
        assert not shipper.delivery.give_up()
        await shipping
    assert shipper.other.texts == ["last words"]


async def test_a_master_that_takes_nothing_slows_the_reading(api: LogApi, shipper: Shipper) -> None:
    api.open.clear()
    block, count = b"x" * 99 + b"\n", 100_000
    read = 0

    async def output() -> AsyncGenerator[Chunk]:
        nonlocal read
        for _ in range(count // 1000):
            read += 1
            yield Chunk(stream="stdout", data=block * 1000)

    async with asyncio.TaskGroup() as group:
        group.create_task(shipper.ship(api, output))
        before = -1
        while read > before:
            before = read
            await asyncio.sleep(0.2)
        assert read <= 10
        api.open.set()
    assert len(api.lines) == count


async def test_reading_that_fails_goes_on_where_it_was(api: LogApi, shipper: Shipper) -> None:
    fails = True

    async def output() -> AsyncGenerator[Chunk]:
        nonlocal fails
        yield Chunk(stream="stdout", data=b"one\ntw")
        if fails:
            fails = False
            raise ConnectionError("the runtime went away")
        yield Chunk(stream="stdout", data=b"o\n")

    with pytest.raises(ConnectionError):
        await shipper.ship(api, output)
    await shipper.ship(api, output, delivered=shipper.delivered)
    assert api.texts == ["one", "two"]


@pytest.mark.parametrize("arrived", [True, False])
async def test_a_batch_under_way_when_the_agent_died_comes_once(
    api: LogApi, shipper: Shipper, arrived: bool
) -> None:
    texts, data = numbered(100)
    half = data.index(b"line 50")
    await shipper.ship(api, output_of(data[:half]))
    sent = shipper.journal.find()
    assert sent is not None
    assert (sent.begins, sent.ends) == ({}, {"stdout": half})
    if not arrived:
        api.lines.clear()
    await shipper.ship(api, output_of(data))
    assert api.texts == texts
    times = [line.timestamp.ToMicroseconds() for line in api.lines]
    assert times == sorted(times)


async def test_nothing_is_asked_where_nothing_is_in_doubt(api: LogApi, shipper: Shipper) -> None:
    shipper.journal.write(Sent(begins={"stdout": 2}, ends={"stdout": 2}, time_us=4 * 10**15))
    await shipper.ship(api, output_of(b"1\n2\n"))
    assert api.texts == ["2"]
    assert api.questions == 0
    assert api.lines[0].timestamp.ToMicroseconds() > 4 * 10**15


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 99}', b"\x00" * 512])
async def test_a_journal_that_cannot_be_read_is_none(
    api: LogApi, shipper: Shipper, content: bytes
) -> None:
    shipper.journal.path.write_bytes(content)
    await shipper.ship(api, output_of(b"1\n"), delivered={"stdout": 0})
    assert api.texts == ["1"]
