from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest

from shipway_agent.logs.lines import GOES_ON, GROUP_LINES, Lines, LineSplitter
from shipway_agent.runtimes.spec import Stream


def texts_of(some: Iterable[Lines]) -> list[bytes]:
    """The lines without what is at the end of each."""
    lines = [text for group in some for text in group.texts]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    return [line[:-1].removesuffix(GOES_ON) for line in lines]


def places_of(some: Iterable[Lines]) -> list[tuple[Stream, bytes, int]]:
    groups = list(some)
    for group in groups:
        assert list(group.ends())[-1] <= group.end
    return [
        (group.stream, text, end)
        for group in groups
        for text, end in zip(texts_of([group]), group.ends(), strict=True)
    ]


def split(*chunks: bytes, max_line_bytes: int = 64 * 1024) -> list[bytes]:
    splitter = LineSplitter(max_line_bytes=max_line_bytes)
    lines: list[Lines] = []
    for chunk in chunks:
        lines += splitter.feed("stdout", chunk, 0.0)
    return texts_of([*lines, *splitter.flush()])


@pytest.mark.parametrize(
    ("chunks", "texts"),
    [
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a", b"b", b"\n"], [b"ab"]),
        ([b"\n\na\n\n"], [b"", b"", b"a", b""]),
        ([b"a\r\n\r\nb\r\n"], [b"a", b"", b"b"]),
        ([b"a\r", b"\nb\n"], [b"a", b"b"]),
        ([b"\r", b"\n"], [b""]),
        ([b"\r  1% done\r  2% done", b"\r  3% done\n"], [b"  1% done", b"  2% done", b"  3% done"]),
        ([b"no end"], [b"no end"]),
        ([b"1%\r2%\r"], [b"1%", b"2%"]),
        ([b"nul\x00x\n"], ["nul\u2400x".encode()]),
        ([b"\xff\xfe bad\n"], ["\ufffd\ufffd bad".encode()]),
        ([b"caf\xc3", b"\xa9 ok\n"], ["caf\u00e9 ok".encode()]),
        ([b"cut\xc3\n\xf0\x9f\x98"], ["cut\ufffd".encode(), "\ufffd".encode()]),
        ([b"\xed\xa0\x80\n"], ["\ufffd\ufffd\ufffd".encode()]),
        (["\u2028one\x0bline\x85\n".encode()], ["\u2028one\x0bline\x85".encode()]),
        ([b""], []),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_lines_end_at_lf_cr_and_cr_lf(chunks: list[bytes], texts: list[bytes]) -> None:
    assert split(*chunks) == texts


def test_a_progress_bar_of_thousand_steps_keeps_every_step() -> None:
    steps = [f"{i / 10:5.1f}% done".encode() for i in range(1000)]
    assert split(*(b"\r" + step for step in steps), b"\n") == steps


def test_a_line_of_megabytes_comes_in_pieces_that_join_to_it() -> None:
    pieces = split(b"x" * (5 * 1024 * 1024), b"\ndone\n")
    assert b"".join(pieces[:-1]) == b"x" * (5 * 1024 * 1024)
    assert max(map(len, pieces)) == 64 * 1024
    assert pieces[-1] == b"done"


def test_no_cut_goes_through_a_character() -> None:
    text = "día😀" * 1000
    pieces = split(text.encode(), max_line_bytes=64)
    assert "".join(piece.decode() for piece in pieces) == text


def test_bytes_that_are_no_characters_are_cut_at_the_limit() -> None:
    sign = "\ufffd".encode()
    assert split(b"\x80" * 10, max_line_bytes=4) == [sign * 4, sign * 4, sign * 2]


def test_a_piece_says_that_its_line_goes_on() -> None:
    splitter = LineSplitter(max_line_bytes=4)
    groups = [*splitter.feed("stdout", b"123456789\nabcd\n", 0.0)]
    assert [text for group in groups for text in group.texts] == [
        b"1234" + GOES_ON + b"\n",
        b"5678" + GOES_ON + b"\n",
        b"9\n",
        b"abcd\n",
    ]


def test_groups_are_bounded_and_know_where_they_end() -> None:
    count = 2 * GROUP_LINES + 1
    groups = list(LineSplitter().feed("stdout", b"12\n" * count, 0.0))
    assert [len(group.texts) for group in groups] == [GROUP_LINES, GROUP_LINES, 1]
    assert [(group.begin, group.end) for group in groups] == [
        (0, 3 * GROUP_LINES),
        (3 * GROUP_LINES, 6 * GROUP_LINES),
        (6 * GROUP_LINES, 3 * count),
    ]


@pytest.mark.parametrize(
    ("data", "has"),
    [
        (b"a\nb INFO: x\n", False),
        (b"a\nINFO: x\n", True),
        (b"ERROR: x\n", True),
        (b" [rank=12] x\n", True),
        (b"a\n[rank=12]", True),
        (b"a\n\n[rank=]\nINFO\n", False),
        (b"a\rDEBUG: progress\r", True),
        (b"a\rDEBUG: progress\r\nb\n", True),
    ],
)
def test_a_group_says_whether_a_line_has_a_rank_or_level(data: bytes, has: bool) -> None:
    splitter = LineSplitter()
    groups = [*splitter.feed("stdout", data, 0.0), *splitter.flush()]
    assert any(group.has_prefixes for group in groups) is has


def test_an_unfinished_line_comes_after_the_delay_without_half_a_character() -> None:
    splitter = LineSplitter(max_delay_s=2)
    assert places_of(splitter.feed("stdout", b"cut\xc3", 10.0)) == []
    assert splitter.deadline() == 12.0
    assert places_of(splitter.due(11.9)) == []
    assert places_of(splitter.due(12.0)) == [("stdout", b"cut", 3)]
    assert splitter.deadline() is None
    assert places_of(splitter.feed("stdout", b"\xa9 joined\n", 13.0)) == [
        ("stdout", "é joined".encode(), 13)
    ]


def test_the_end_of_a_line_that_was_given_out_is_no_empty_line() -> None:
    splitter = LineSplitter(max_delay_s=1)
    list(splitter.feed("stdout", b"prompt> ", 0.0))
    assert texts_of(splitter.due(1.0)) == [b"prompt> "]
    assert places_of(splitter.feed("stdout", b"\n\n", 2.0)) == [("stdout", b"", 10)]


def test_a_cr_that_nothing_follows_ends_its_line_after_the_delay() -> None:
    splitter = LineSplitter(max_delay_s=1)
    assert places_of(splitter.feed("stderr", b"50%\r", 0.0)) == []
    assert places_of(splitter.due(1.0)) == [("stderr", b"50%", 4)]
    assert places_of(splitter.feed("stderr", b"\nnext\n", 2.0)) == [("stderr", b"next", 10)]


def test_streams_do_not_mix() -> None:
    splitter = LineSplitter()
    assert places_of(splitter.feed("stdout", b"out", 0.0)) == []
    assert places_of(splitter.feed("stderr", b"err\n", 0.0)) == [("stderr", b"err", 4)]
    assert places_of(splitter.feed("stdout", b"put\n", 0.0)) == [("stdout", b"output", 7)]


def test_a_busy_stream_does_not_hold_up_a_waiting_one() -> None:
    splitter = LineSplitter(max_delay_s=1)
    list(splitter.feed("stderr", b"waiting", 0.0))
    assert set(texts_of(splitter.feed("stdout", b"busy\n", 5.0))) == {b"busy", b"waiting"}


def random_output(chance: random.Random, length: int) -> bytes:
    parts = [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\r\n",
        "é😀".encode(),
        b"\xff\x80",
        b"word",
        b"x" * 11,
        b" ",
    ]
    return b"".join(chance.choices(parts, k=length))


def random_chunks(chance: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(chance.choices(range(len(data) + 1), k=chance.randint(0, 12)))
    edges = [0, *cuts, len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("seed", range(200))
def test_lines_do_not_depend_on_where_the_bytes_were_cut(seed: int) -> None:
    chance = random.Random(seed)
    data = random_output(chance, 60)
    assert split(*random_chunks(chance, data), max_line_bytes=16) == split(data, max_line_bytes=16)


@pytest.mark.parametrize("seed", range(200))
def test_reading_again_from_the_end_of_any_line_gives_the_rest(seed: int) -> None:
    chance = random.Random(seed)
    data = random_output(chance, 60)
    first = LineSplitter(max_line_bytes=16, max_delay_s=0.5)
    groups: list[Lines] = []
    for now, chunk in enumerate(random_chunks(chance, data)):
        groups += first.feed("stdout", chunk, float(now))
    groups += first.flush()
    lines = places_of(groups)
    for index, (_, _, end) in enumerate(lines):
        again = LineSplitter(max_line_bytes=16, skip={"stdout": end})
        rest: list[Lines] = []
        for chunk in random_chunks(chance, data):
            rest += again.feed("stdout", chunk, 0.0)
        rest += again.flush()
        assert b"".join(texts_of(rest)) == b"".join(text for _, text, _ in lines[index + 1 :])


@pytest.mark.parametrize("seed", range(100))
def test_where_a_line_ends_does_not_depend_on_where_the_bytes_were_cut(seed: int) -> None:
    chance = random.Random(seed)
    data = random_output(chance, 60)

    def places() -> list[tuple[Stream, bytes, int]]:
        splitter, groups = LineSplitter(max_line_bytes=16), list[Lines]()
        for chunk in random_chunks(chance, data):
            groups += splitter.feed("stdout", chunk, 0.0)
        return places_of([*groups, *splitter.flush()])

    assert places() == places()
