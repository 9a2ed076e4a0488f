from __future__ import annotations

import itertools
import random

import pytest

from shipway_agent.logs.lines import Line, LineSplitter, wire_text


def split(*chunks: bytes, max_line_bytes: int = 64 * 1024) -> list[bytes]:
    splitter = LineSplitter(max_line_bytes=max_line_bytes)
    lines: list[Line] = []
    for chunk in chunks:
        lines += splitter.feed("stdout", chunk, 0.0)
    return [line.text for line in lines + splitter.flush()]


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
        ([b"nul\x00x\n"], [b"nul\x00x"]),
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
    assert split(b"\x80" * 10, max_line_bytes=4) == [b"\x80" * 4, b"\x80" * 4, b"\x80" * 2]


def test_an_unfinished_line_comes_after_the_delay_without_half_a_character() -> None:
    splitter = LineSplitter(max_delay_s=2)
    assert splitter.feed("stdout", b"cut\xc3", 10.0) == []
    assert splitter.deadline() == 12.0
    assert splitter.due(11.9) == []
    assert splitter.due(12.0) == [Line("stdout", b"cut", 3, complete=False)]
    assert splitter.deadline() is None
    assert splitter.feed("stdout", b"\xa9 joined\n", 13.0) == [
        Line("stdout", "é joined".encode(), 13, complete=True)
    ]


def test_the_end_of_a_line_that_was_given_out_is_no_empty_line() -> None:
    splitter = LineSplitter(max_delay_s=1)
    splitter.feed("stdout", b"prompt> ", 0.0)
    assert [line.text for line in splitter.due(1.0)] == [b"prompt> "]
    assert splitter.feed("stdout", b"\n\n", 2.0) == [Line("stdout", b"", 10, complete=True)]


def test_a_cr_that_nothing_follows_ends_its_line_after_the_delay() -> None:
    splitter = LineSplitter(max_delay_s=1)
    assert splitter.feed("stderr", b"50%\r", 0.0) == []
    assert splitter.due(1.0) == [Line("stderr", b"50%", 4, complete=True)]
    assert splitter.feed("stderr", b"\nnext\n", 2.0) == [Line("stderr", b"next", 10, complete=True)]


def test_streams_do_not_mix() -> None:
    splitter = LineSplitter()
    assert splitter.feed("stdout", b"out", 0.0) == []
    assert splitter.feed("stderr", b"err\n", 0.0) == [Line("stderr", b"err", 4, complete=True)]
    assert splitter.feed("stdout", b"put\n", 0.0) == [Line("stdout", b"output", 7, complete=True)]


def test_a_busy_stream_does_not_hold_up_a_waiting_one() -> None:
    splitter = LineSplitter(max_delay_s=1)
    splitter.feed("stderr", b"waiting", 0.0)
    lines = splitter.feed("stdout", b"busy\n", 5.0)
    assert {line.text for line in lines} == {b"busy", b"waiting"}


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
    lines: list[Line] = []
    for now, chunk in enumerate(random_chunks(chance, data)):
        lines += first.feed("stdout", chunk, float(now))
    lines += first.flush()
    for index, line in enumerate(lines):
        again = LineSplitter(max_line_bytes=16, skip={"stdout": line.end})
        rest: list[Line] = []
        for chunk in random_chunks(chance, data):
            rest += again.feed("stdout", chunk, 0.0)
        rest += again.flush()
        assert b"".join(one.text for one in rest) == b"".join(
            one.text for one in lines[index + 1 :]
        )


def test_the_wire_gets_text_that_a_database_takes() -> None:
    assert wire_text(b"\xff\xfe bad") == "\ufffd\ufffd bad"
    assert wire_text(b"nul\x00x") == "nul\u2400x"
    assert wire_text("día😀".encode()) == "día😀"
