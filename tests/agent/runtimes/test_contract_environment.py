"""Environment and arguments: what every runtime must hand over as it is, or refuse by name."""

from __future__ import annotations

import os
from typing import Any

import pytest

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.spec import Mount, Runtime
from tests.agent.runtimes.conftest import Case, MakeSpec, with_socket_too
from tests.agent.runtimes.steps import ignore, run

# The set A7: what environments of users hold.
HOSTILE_ENVIRONMENT = {
    "A": 'b=c "q"',
    "NL": "l1\nl2",
    "EMPTY": "",
    "SP": "  two  blanks  ",
    "DQ": '{"k": "v\\"w"}',
    "SQ": "it's",
    "DOLLAR": "$$ ${HOME} `id` $(id)",
    "BS": "\\n\\t\\\\",
    "UNI": "día😀",
    "LONG": "x" * 70000,
    "INHERIT": "",
    "COMMA": "a,b=c,d",
    "HASH": "# no comment",
    "STAR": "*",
}


@with_socket_too
async def test_environment_arrives_byte_for_byte(
    runtime: Runtime, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INHERIT", "host")
    outcome = await run(
        runtime,
        make_spec(argv=("cat", "/proc/self/environ"), environment=HOSTILE_ENVIRONMENT),
    )
    seen = dict(
        entry.split(b"=", 1) for entry in outcome.stdout.removesuffix(b"\n").split(b"\0") if entry
    )
    wanted = {os.fsencode(name): os.fsencode(value) for name, value in HOSTILE_ENVIRONMENT.items()}
    assert {name: seen.get(name) for name in wanted} == wanted


async def test_a_name_with_a_dot_arrives_or_is_refused_by_name(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(argv=("cat", "/proc/self/environ"), environment={"NAME.WITH.DOT": "1"})
    if case.identifiers_only:
        with pytest.raises(SpecUnsupported, match=r"'NAME\.WITH\.DOT'"):
            await runtime.create(spec, ignore)
    else:
        assert b"NAME.WITH.DOT=1\0" in (await run(runtime, spec)).stdout + b"\0"


async def test_bytes_that_are_no_text_arrive_or_are_refused_by_name(
    case: Case, runtime: Runtime, make_spec: MakeSpec
) -> None:
    spec = make_spec(
        argv=("cat", "/proc/self/environ"), environment={"BAD": os.fsdecode(b"\xff\xfe")}
    )
    if case.utf8_only:
        with pytest.raises(SpecUnsupported, match="'BAD'"):
            await runtime.create(spec, ignore)
    else:
        assert b"BAD=\xff\xfe\0" in (await run(runtime, spec)).stdout


async def test_the_agents_own_environment_is_not_the_tasks(
    runtime: Runtime, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_AGENT", "s3cret")
    outcome = await run(runtime, make_spec(argv=("cat", "/proc/self/environ")))
    assert b"s3cret" not in outcome.stdout
    assert b"PATH=" in outcome.stdout


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TOO_LONG": "x" * 140_000}, "'TOO_LONG' has 140009 bytes"),
        ({"ZERO": "a\0b"}, "'ZERO' holds a zero byte"),
        ({"": "x"}, "'': that is no name"),
        ({"A=B": "x"}, "'A=B': that is no name"),
    ],
    ids=["too-long", "zero-byte", "no-name", "equals-sign"],
)
async def test_what_no_program_can_be_given_is_refused_by_name(
    runtime: Runtime, make_spec: MakeSpec, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(SpecUnsupported, match=words):
        await runtime.create(make_spec(environment=environment), ignore)
    assert await runtime.list_owned({}) == []


async def test_arguments_arrive_as_they_are(runtime: Runtime, make_spec: MakeSpec) -> None:
    words = ["a b", "", "'", '"', "$HOME", "`id`", "l1\nl2", "*", "día", "--", "-x"]
    outcome = await run(runtime, make_spec(argv=("sh", "-c", 'printf "%s|" "$@"', "name", *words)))
    assert outcome.stdout.removesuffix(b"\n") == "".join(f"{word}|" for word in words).encode()


@with_socket_too
async def test_more_than_a_program_can_be_given_at_once_is_refused_by_name(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    many = {f"V{number}": "x" * 100_000 for number in range(70)}
    words = (
        r"70\d+ bytes together; Linux passes \d+ at most; the biggest is environment variable 'V10"
    )
    with pytest.raises(SpecUnsupported, match=words):
        await runtime.create(make_spec(environment=many), ignore)
    assert await runtime.list_owned({}) == []


@pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)
async def test_what_a_program_can_just_be_given_at_once_arrives(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    many = {f"V{number}": "x" * 100_000 for number in range(20)}
    spec = make_spec(argv=("sh", "-c", "cat /proc/self/environ | wc -c"), environment=many)
    assert int((await run(runtime, spec)).stdout) > 2_000_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"environment": {"HALF": "\ud800"}}, "'HALF' holds half of a UTF-16 pair"),
        ({"argv": ("sh", "\udfff")}, "argument 1 holds half of a UTF-16 pair"),
        ({"work_dir": "/a\0b"}, "the working folder holds a zero byte"),
        ({"mounts": (Mount(source="/\0", target="/x"),)}, "bind mount '/.x00' holds a zero byte"),
        ({"labels": {"l": "\ud83d"}}, "label 'l' holds half"),
    ],
    ids=["half", "half-argument", "zero-folder", "zero-mount", "half-label"],
)
@pytest.mark.parametrize("case_name", ["process", "docker", "podman-socket"], indirect=True)
async def test_text_that_is_none_is_refused_by_name(
    runtime: Runtime, make_spec: MakeSpec, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecUnsupported, match=words):
        await runtime.create(make_spec(**changes), ignore)
    assert await runtime.list_owned({}) == []
