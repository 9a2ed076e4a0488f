"""Read and check the options of sbatch that a user gave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.batch.options import BY_SHORT, OPTIONS, Known, Takes
from shipway_launcher.errors import WrongRequest

_LONG = re.compile(r"--([A-Za-z][A-Za-z0-9-]*)")
_NEXT = re.compile(r"\s+(?=-(?:-?[A-Za-z]))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GO_ESCAPE = re.compile(
    r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtv\\"\'])|(.))'
)
_GO_SIMPLE = dict(zip("abfnrtv\\\"'", "\a\b\f\n\r\t\v\\\"'", strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option by its long name."""

    name: str
    value: str | None = None


def parse_user_options(arguments: Sequence[str]) -> list[Option]:
    """Read each argument as one or more options of sbatch.

    A value goes to the end of the argument, blanks included, unless another option begins there;
    a value in double quotes may hold anything, as Go writes it.

    Raises:
        WrongRequest: It is no option, or one that users cannot give.
    """
    options: list[Option] = []
    for argument in arguments:
        if match := _CONTROL.search(argument):
            raise WrongRequest(
                f"slurm option {argument[: match.start()][:80]!r} holds a control character"
                f" ({match.group()!r})"
            )
        rest = argument.strip()
        if not rest:
            continue
        while rest:
            found, rest = _take(rest)
            options += found
    return options


def _take(text: str) -> tuple[list[Option], str]:
    """Take the first option off *text* (several, if short ones share a word)."""
    if match := _LONG.match(text):
        name, rest = _resolve(match.group(1)), text[match.end() :]
        if rest[:1] not in ("", "=", " "):
            raise _no_option(text)
        known = OPTIONS.get(name)
        if rest.startswith("="):
            value, rest = _take_value(rest[1:])
            if known is not None and known.takes is Takes.NOTHING:
                raise WrongRequest(f"slurm option --{name} takes no value")
            return [Option(name=name, value=value)], rest
        if known is not None and known.takes is not Takes.VALUE:
            return [Option(name=name)], _nothing_but_options(name, rest)
        value, rest = ("", rest.lstrip()) if _NEXT.match(rest) else _take_value(rest.lstrip())
        if known is not None and not value:
            raise WrongRequest(f"slurm option --{name} needs a value")
        return [Option(name=name, value=value or None)], rest
    return _take_short(text)


def _take_short(text: str) -> tuple[list[Option], str]:
    options: list[Option] = []
    if not re.match(r"-[A-Za-z]", text):
        raise _no_option(text)
    rest = text[1:]
    while rest and not rest[0].isspace():
        known = BY_SHORT.get(rest[0])
        if known is None:
            raise WrongRequest(f"slurm option -{rest[0]} is unknown")
        _refuse_ours(known, f"-{known.short}")
        rest = rest[1:]
        if known.takes is Takes.VALUE:
            value, rest = _take_value(rest.lstrip() if not _NEXT.match(rest) else "")
            if not value:
                raise WrongRequest(f"slurm option -{known.short} needs a value")
            return [*options, Option(name=known.name, value=value)], rest
        options.append(Option(name=known.name))
    return options, _nothing_but_options(options[-1].name, rest)


def _take_value(text: str) -> tuple[str, str]:
    """Take a value off *text*; a whole one in quotes loses them."""
    quoted = re.match(r"\"((?:[^\"\\]|\\.)*)\"(?=\s|$)|'([^']*)'(?=\s|$)", text)
    if quoted is not None:
        escaped, literal = quoted.groups()
        value = _unescape(escaped) if escaped is not None else literal
        if _CONTROL.search(value):
            raise WrongRequest(f"slurm option value {text[:80]} holds a control character")
        return value, _nothing_but_options(f"value {text[:40]}", text[quoted.end() :])
    following = _NEXT.search(text)
    if following is None:
        return text, ""
    return text[: following.start()], text[following.end() :]


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        *codes, simple, other = match.groups()
        code = next((code for code in codes if code), None)
        if code is not None:
            number = int(code, 16)
            return chr(number) if number < 0x110000 else "\ufffd"
        return _GO_SIMPLE[simple] if simple else other or ""

    return _GO_ESCAPE.sub(replace, text)


def _nothing_but_options(name: str, rest: str) -> str:
    rest = rest.lstrip()
    if rest and not re.match(r"--?[A-Za-z]", rest):
        raise WrongRequest(f"slurm option {name}: {rest[:80]!r} behind it is no option")
    return rest


def _resolve(name: str) -> str:
    """Return the full name of an option, which may be shortened as far as it stays clear."""
    if (known := OPTIONS.get(name)) is not None:
        _refuse_ours(known, f"--{name}")
        return name
    longer = [known for full, known in OPTIONS.items() if full.startswith(name)]
    for known in longer:
        _refuse_ours(known, f"--{name}")
    # What is in no list of ours is left to sbatch, which knows its own release.
    return longer[0].name if len(longer) == 1 else name


def _refuse_ours(known: Known, spelled: str) -> None:
    if known.is_ours:
        raise WrongRequest(f"unable to launch job: slurm option {spelled} is not configurable")


def _no_option(text: str) -> WrongRequest:
    return WrongRequest(f"slurm option {text[:80]!r} is not of the form --name=value")
