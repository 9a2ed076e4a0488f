"""What we encode by hand is held to the classes that were generated from the contract."""

from __future__ import annotations

import random

import pytest
from google.protobuf import json_format

from shipway_agent.logs.batch import MAX_BYTES, Batch, own_line
from shipway_agent.logs.encode import BatchEncoder, LogSource
from shipway_agent.logs.lines import LineSplitter
from shipway_agent.logs.prefix import parse_prefix, prefix_length
from shipway_agent.runtimes.spec import Stream
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest
from shipway_proto.determined.log.v1.log_pb2 import LogLevel
from shipway_proto.determined.task.v1.task_pb2 import TaskLog


def make_source(chance: random.Random) -> LogSource:
    return LogSource(
        task_id="t" * chance.randint(0, 200),
        allocation_id="7.día.1",
        agent_id="n" * chance.randint(0, 300),
        container_id='[cont="0"]',
        rank=chance.choice([None, 0, 5, 2**31 - 1]),
    )


def make_batch(chance: random.Random) -> Batch:
    batch, splitter, time_us = Batch(), LineSplitter(), 1_700_000_000_000_000
    words = [
        "x",
        "é😀",
        "\\",
        '"',
        "\x07",
        "\x00",
        " ",
        "[rank=3] ",
        "INFO: ",
        "ERROR:",
        "\r",
        "\n",
    ]
    for _ in range(chance.randint(1, 4)):
        time_us += chance.choice([0, 1, 999_999, 10**6])
        stream: Stream = chance.choice(["stdout", "stderr"])
        text = "".join(
            chance.choice(words) * chance.choice([1] * 60 + [120, 128, 16_400])
            for _ in range(chance.randint(1, 30))
        )
        for lines in splitter.feed(stream, text.encode() + b"\xff\n", 0.0):
            batch.add(lines, time_us)
    return batch


def messages(source: LogSource, batch: Batch) -> PostTaskLogsRequest:
    """The same by the generated class, line by line."""
    request = PostTaskLogsRequest()
    for part in batch.parts:
        for line in part.lines.texts:
            cut = prefix_length(line) if part.lines.has_prefixes else 0
            rank, level = parse_prefix(line[:cut])
            entry = TaskLog(
                task_id=source.task_id,
                allocation_id=source.allocation_id,
                agent_id=source.agent_id,
                container_id=source.container_id,
                rank_id=source.rank if rank is None else rank,
                log=line[cut:].decode(),
                source="task",
                stdtype=part.lines.stream,
            )
            entry.timestamp.FromMicroseconds(part.time_us)
            if level != "UNSPECIFIED":
                entry.level = LogLevel.Value(f"LOG_LEVEL_{level}")
            request.logs.append(entry)
    return request


@pytest.mark.parametrize("seed", range(40))
def test_a_batch_is_byte_for_byte_what_the_generated_class_makes(seed: int) -> None:
    chance = random.Random(seed)
    source, batch = make_source(chance), make_batch(chance)
    expected = messages(source, batch).SerializeToString(deterministic=True)
    assert BatchEncoder(source).protobuf(batch) == expected


@pytest.mark.parametrize("seed", range(15))
def test_the_json_of_a_batch_says_the_same(seed: int) -> None:
    chance = random.Random(seed)
    source, batch = make_source(chance), make_batch(chance)
    found = json_format.Parse(BatchEncoder(source).json(batch), PostTaskLogsRequest())
    assert found == messages(source, batch)


@pytest.mark.parametrize("seed", range(20))
def test_the_halves_of_a_batch_are_the_batch(seed: int) -> None:
    chance = random.Random(seed)
    source, batch = make_source(chance), make_batch(chance)
    if batch.count < 2:
        return
    first, second = batch.halves()
    assert abs(first.count - second.count) <= 1
    encode = BatchEncoder(source).protobuf
    assert encode(first) + encode(second) == encode(batch)
    joined = [end for half in (first, second) for part in half.parts for end in part.lines.ends()]
    assert joined == [end for part in batch.parts for end in part.lines.ends()]


@pytest.mark.parametrize(
    "text",
    [b"\n" * 300_000, b"\x00" * 500_000 + b"\n", b"\xff" * 500_000 + b"\n", b"y\n" * 100_000],
    ids=["empty", "nul", "not UTF-8", "short"],
)
def test_no_batch_is_near_the_limit_of_a_receiver(text: bytes) -> None:
    encode = BatchEncoder(make_source(random.Random(1))).protobuf
    batch = Batch()
    for lines in LineSplitter().feed("stdout", text, 0.0):
        batch.add(lines, 1)
        if batch.is_full:
            assert len(encode(batch)) < 3 * MAX_BYTES
            batch = Batch()


def test_a_line_of_our_own_stands_where_others_stood() -> None:
    batch = make_batch(random.Random(3))
    place = batch.parts[-1]
    line = own_line("lost", place)
    assert line.parts[0].lines.texts == [b"[shipway: lost]\n"]
    assert line.ends == {place.lines.stream: place.lines.end}
    assert line.parts[0].time_us == place.time_us
