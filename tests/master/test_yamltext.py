"""YAML of users: what scalars mean, what is refused, and that no text stops the master."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from shipway_master.yamltext import MAX_DEPTH, BadYaml, parse_yaml
from tests.lab.det import Det, program

READ: dict[str, tuple[str, Any]] = {
    "exponent without point": ("1e-05", 1e-5),
    "exponent with sign": ("1.5E+3", 1500),
    "whole float": ("5.0", 5),
    "point first": (".5", 0.5),
    "hexadecimal": ("0x1F", 31),
    "octal": ("0o17", 15),
    "binary": ("-0b11", -3),
    "underscores": ("1_000", 1000),
    "no number": ("0x_", "0x_"),
    "more than 64 bits": ("100000000000000000001", 10**20),
    "yes": ("yes", True),
    "Off": ("Off", False),
    "y is text": ("y", "y"),
    "date": ("2030-01-31", "2030-01-31"),
    "time of day": ("1:30", "1:30"),
    "null": ("~", None),
    "nothing": ("", None),
    "quoted": ('"5"', "5"),
    "tagged text": ("!!str 5", "5"),
    "tagged number": ("!!float '5'", 5),
    "equals sign": ("=", "="),
}

REFUSED: dict[str, tuple[str, str]] = {
    "not a number": ("a: .nan", r"line 1, column 4: \.nan"),
    "infinite": ("a: -.inf", "no number that JSON has"),
    "too large": ("a: 1e400", "larger than any number"),
    "very many digits": ("a: " + "9" * 5000, "larger than any number"),
    "leading zero": ("a: 010", "010 is a number with base 8 to some"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is there twice"),
    "merged twice": ("<<: {}\n<<: {}", "'<<' is there twice"),
    "merged text": ("<<: x", "'<<' wants a mapping"),
    "list as key": ("? [a]\n: b", "a key must be plain text"),
    "alias as key": ("a: &x 1\n*x : 2", "a key must be plain text"),
    "within itself": ("a: &x [*x]", "no finished value under the name 'x'"),
    "unknown alias": ("a: *x", "no finished value|undefined alias"),
    "foreign tag": ("a: !!python/object:os.system x", "the tag .* is not known"),
    "foreign tag on a list": ("a: !x [1]", "the tag '!x' is not known"),
    "binary data": ("a: !!binary aGk=", "the tag .* is not known"),
    "misfit of tag": ("a: !!int x", "'x' does not fit its tag"),
    "truth as a number": ("a: !!int yes", "'yes' does not fit its tag"),
    "lone surrogate": ('a: "\\ud800"', "not YAML|half a character"),
    "two documents": ("a: 1\n---\nb: 2", "a second document"),
    "unfinished": ("a: [", "not YAML"),
    "tab": ("a:\n\tb: c", "not YAML"),
    "control character": ("a: \x00", "not YAML"),
    "very deep": ("[" * 300_000, "not YAML|within each other"),
    "deep by blocks": ("- " * 5000 + "a", "within each other"),
    "too large a text": ("a: " + "x" * 2**20, "larger than 1048576 bytes"),
    "too many values": ("- a\n" * 100_001, "more than 100000 values"),
}


@pytest.mark.parametrize(("text", "value"), READ.values(), ids=READ)
def test_what_a_scalar_means(text: str, value: Any) -> None:
    read = parse_yaml(f"a: {text}")["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadYaml, match=why):
        parse_yaml(text)


def test_keys_are_as_written() -> None:
    assert parse_yaml("1: a\non: b\nnull: c\n1.50: d") == {
        "1": "a",
        "on": "b",
        "null": "c",
        "1.50": "d",
    }


def test_aliases_and_merged_mappings() -> None:
    text = "x: &x {k: 1, l: 2}\ny: {<<: *x, k: 3}\nz: [*x, {<<: [{k: 4}, *x]}]"
    assert parse_yaml(text) == {
        "x": {"k": 1, "l": 2},
        "y": {"k": 3, "l": 2},
        "z": [{"k": 1, "l": 2}, {"k": 4, "l": 2}],
    }


def test_aliases_count_as_what_they_stand_for() -> None:
    names = "abcdefgh"
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{below}'] * 10)}]\n"
        for below, name in itertools.pairwise(names)
    )
    with pytest.raises(BadYaml, match="more than 100000 values"):
        parse_yaml(bomb)


def test_aliases_do_not_get_around_the_depth() -> None:
    text = "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, MAX_DEPTH))])
    with pytest.raises(BadYaml, match=f"more than {MAX_DEPTH} mappings"):
        parse_yaml(text)


def test_json_is_read_as_itself() -> None:
    value: Any = {"a": [1, 2.5, None, True, 'é\n\t"\\', {"b": {"c": 0}}]}
    assert parse_yaml(json.dumps(value)) == value
    assert parse_yaml(json.dumps(value, ensure_ascii=False, indent=2)) == value


@pytest.mark.parametrize("text", ["", "# nothing", "---"], ids=["empty", "comment", "marker"])
def test_no_document_is_null(text: str) -> None:
    assert parse_yaml(text) is None


@pytest.mark.det
def test_what_the_stock_client_writes_is_what_it_meant(det: Callable[..., Det]) -> None:
    assert det  # it is there
    values: dict[str, Any] = {
        "rate": 1e-5,
        "large": 1e300,
        "whole": 5,
        "float": 2.5,
        "zeros": "010",
        "text": "1e5",
        "hex": "0x10",
        "none": None,
        "true": True,
        "merge": "<<",
        "date": "2030-01-31",
        "unicode": "é\n x",
        "list": [1, {"a": []}],
        "colon": "a: b",
    }
    script = (
        "import json, sys; from determined.common import util;"
        "print(util.yaml_safe_dump(json.loads(sys.argv[1])))"
    )
    written = subprocess.run(
        [program().with_name("python"), "-c", script, json.dumps(values)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert parse_yaml(written) == values
