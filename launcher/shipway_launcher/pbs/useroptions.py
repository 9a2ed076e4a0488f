"""Read and check the options of qsub that a user gave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from shipway_launcher.errors import WrongRequest

_WITH_VALUE = frozenset("aAcCeGJjklmMNopqrRSuvWP")
_WITHOUT = frozenset("fhIVXz")
_OURS = frozenset("cCeGhIJjkoqrRSuvVWXz")
"""They decide how the job is submitted, where its output goes or what it finds there, so users
cannot give them."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(slots=True, kw_only=True)
class UserOptions:
    """What the user asked for."""

    options: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Options but -l by their letters, as they are handed on."""
    resources: dict[str, str] = field(default_factory=dict[str, str])
    """What `-l` asks for the job as a whole; a time, for instance."""
    chunk: dict[str, str] = field(default_factory=dict[str, str])
    """What `-l select` wants in each chunk."""
    notes: dict[str, None] = field(default_factory=dict[str, None])
    """What was left out."""


def parse_user_options(arguments: Sequence[str]) -> UserOptions:
    """Read each argument as one or more options of qsub, in the way that qsub splits a directive.

    Raises:
        WrongRequest: It is no option, or one that users cannot give.
    """
    given: list[tuple[str, str | None]] = []
    for argument in arguments:
        if match := _CONTROL.search(argument):
            raise WrongRequest(
                f"PBS option {argument[: match.start()][:80]!r} holds a control character"
                f" ({match.group()!r})"
            )
        given += _read_words(_split(argument))
    found = UserOptions()
    for letter, value in given:
        if letter == "N":
            found.notes["PBS option -N is left out: the launcher names the job"] = None
        elif letter == "l":
            _read_resources(value or "", found)
        else:
            found.options[letter] = value
    return found


def _split(text: str) -> list[str]:
    """Split into words; within double quotes, as the master writes them, a backslash escapes."""
    words: list[str] = []
    position = 0
    form = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|\\(.)|([^\s\"'\\]+)|(\s+)")
    begins = True
    while position < len(text):
        match = form.match(text, position)
        if match is None:
            raise WrongRequest(f"PBS option {text[:80]!r}: a quotation mark is not closed")
        double, single, escaped, plain, blank = match.groups()
        position = match.end()
        if blank is not None:
            begins = True
            continue
        part = re.sub(r"\\([\"\\])", r"\1", double) if double is not None else ""
        part = part or single or escaped or plain or ""
        if begins:
            words.append(part)
        else:
            words[-1] += part
        begins = False
    return words


def _read_words(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """Take options off the words, as getopt does."""
    found: list[tuple[str, str | None]] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("--"):
            raise _not_configurable(word)
        if not re.match(r"-[A-Za-z]", word):
            raise WrongRequest(f"PBS option {word[:80]!r} is not of the form -X value")
        rest = word[1:]
        while rest:
            letter, rest = rest[0], rest[1:]
            if letter in _OURS:
                raise _not_configurable(f"-{letter}")
            if letter in _WITHOUT:
                found.append((letter, None))
                continue
            if letter not in _WITH_VALUE:
                raise WrongRequest(f"PBS option -{letter} is unknown")
            value = rest or (left.pop(0) if left else "")
            if not value:
                raise WrongRequest(f"PBS option -{letter} needs a value")
            found.append((letter, value))
            rest = ""
    return found


def _read_resources(text: str, found: UserOptions) -> None:
    """Read a list of resources of the job, among which may be those of its chunks."""
    for item in _split_list(text, ","):
        name, equals, value = item.partition("=")
        name = name.strip()
        if not equals or not value or not _NAME.fullmatch(name):
            raise WrongRequest(f"PBS option -l {text[:80]!r}: {item[:80]!r} is no NAME=VALUE")
        if name.lower() == "select":
            found.chunk.update(_read_chunk(value))
        elif name.lower() == "place":
            found.notes["PBS option -l place is left out: a node runs one part of the job"] = None
        else:
            found.resources[name] = value


def _read_chunk(text: str) -> dict[str, str]:
    """Read `2:ngpus=4:mem=4gb`; how many chunks there are is not for the user to say."""
    if len(_split_list(text, "+")) > 1:
        raise WrongRequest(
            f"PBS option -l select={text[:80]!r}: all parts of the job are alike, so there can be"
            " only one kind of chunk"
        )
    parts = _split_list(text, ":")
    if parts and parts[0].strip().isdecimal():
        del parts[0]
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or not value or not _NAME.fullmatch(name):
            raise WrongRequest(f"PBS option -l select: {part[:80]!r} is no resource")
        found[name] = value
    return found


def _split_list(text: str, separator: str) -> list[str]:
    """Split where the separator is not within quotation marks."""
    pattern = rf"(?:\"[^\"]*\"|'[^']*'|[^{re.escape(separator)}\"'])+"
    return re.findall(pattern, text)


def _not_configurable(spelled: str) -> WrongRequest:
    return WrongRequest(f"unable to launch job: PBS option {spelled[:80]} is not configurable")
