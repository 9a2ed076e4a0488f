"""Runs rocm-smi, or amd-smi where that is missing.

A vendor's program may hang or crash as its driver does, so it gets a deadline, and is ended with
all that it started.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.process import StuckProcesses, helper
from shipway_agent.slots.rocm_text import Card, Told, read_amd_smi, read_rocm_smi

_OUTPUT_LIMIT_BYTES = 1 << 20

_identity = ("--showuniqueid", "--showbus")
_rocm_smi_calls = (
    (*_identity, "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--json"),
    (*_identity, "--json"),  # some releases fail over a name that they do not know
)
_amd_smi_calls = (
    ("static", "--asic", "--board", "--bus", "--vram", "--driver", "--json"),
    ("static", "--json"),
)


class NoRocmProgram(SlotsUnknown):
    """Neither rocm-smi nor amd-smi is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RocmProgram:
    """A program that tells of AMD GPUs, and how to call it."""

    path: str
    name: str
    calls: Sequence[Sequence[str]]
    """All cards at once, the last with what is indispensable."""
    selector: str
    """The option before the number of a card."""
    read: Callable[[bytes], Told | None]


def find_program(environ: Mapping[str, str], root: Path) -> RocmProgram:
    """Find the program to ask; blocking.

    Raises:
        NoRocmProgram: There is none.
    """
    # A service's PATH seldom has ROCm's own folder.
    folders = [*environ.get("PATH", "").split(":"), str(root / "opt/rocm/bin")]
    path = ":".join(folder for folder in folders if folder)
    if found := shutil.which("rocm-smi", path=path):
        return RocmProgram(
            path=found, name="rocm-smi", calls=_rocm_smi_calls, selector="-d", read=read_rocm_smi
        )
    if found := shutil.which("amd-smi", path=path):
        return RocmProgram(
            path=found, name="amd-smi", calls=_amd_smi_calls, selector="-g", read=read_amd_smi
        )
    raise NoRocmProgram(
        "neither rocm-smi nor amd-smi is installed (looked for in PATH and /opt/rocm/bin)"
    )


async def ask(
    program: RocmProgram, environ: Mapping[str, str], timeout_s: float, stuck: StuckProcesses
) -> Told:
    """Try the calls in turn until one is answered.

    The exit status does not count: there are releases that end with 2 after a good answer, and
    with 0 after none.

    Raises:
        SlotsUnknown: None was answered in a form that can be read.
    """
    if pid := stuck.find(program.name):
        raise SlotsUnknown(f"the driver still holds process {pid} ({program.name}): reboot")
    problem = ""
    for call in program.calls:
        argv = [program.path, *call]
        output, said = await _run(argv, program.name, environ, timeout_s, stuck)
        if (told := program.read(output)) is not None:
            return told
        problem = problem or said
    if "No JSON data to report" in problem:
        return Told(cards=())
    raise SlotsUnknown(f"{program.name} told nothing that can be read: {problem}")


async def ask_each(
    program: RocmProgram,
    number: int,
    environ: Mapping[str, str],
    timeout_s: float,
    stuck: StuckProcesses,
) -> Told | None:
    """Ask card by card, so that one that hangs does not hide the others; None if that is no help."""
    cards: list[Card] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + 3 * timeout_s
    for index in range(number):
        subject = f"{program.name} {program.selector} {index}"
        if pid := stuck.find(subject):
            problem = f"the driver still holds process {pid}, which asked for it: reboot"
        elif loop.time() >= end:
            problem = f"not asked: {program.name} answers too slowly"
        else:
            argv = [program.path, *program.calls[-1], program.selector, str(index)]
            output, said = await _run(argv, subject, environ, timeout_s, stuck)
            told = program.read(output)
            if told is not None:
                cards += told.cards
                continue
            problem = f"{program.name}: {said}"
        cards.append(Card(index=index, problem=problem))
    return Told(cards=tuple(cards)) if any(card.problem is None for card in cards) else None


async def _run(
    argv: Sequence[str],
    name: str,
    environ: Mapping[str, str],
    timeout_s: float,
    stuck: StuckProcesses,
) -> tuple[bytes, str]:
    """Run a program; returns its output and, in words, what else came of it.

    One that hangs after it has answered, or leaves somebody behind who keeps its output open, has
    answered.
    """
    # They are Python programs, with modules of their own.
    kept = {name: text for name, text in environ.items() if not name.startswith("PYTHON")}
    surroundings = {**kept, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    output, errors = bytearray(), bytearray()
    try:
        async with helper(argv, surroundings, subject=name, stuck=stuck) as running:
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.gather(
                        _read(running.stdout, output), _read(running.stderr, errors)
                    )
                end = await running.wait(timeout_s)
            except TimeoutError:
                end = f"did not answer within {timeout_s:g} s"
    except OSError as error:
        raise SlotsUnknown(f"{argv[0]} cannot be started: {error}") from error
    first = " ".join((errors + output).decode("utf-8", "replace").split())[:200]
    return bytes(output), f"it {end} and said {first!r}" if first else f"it {end} and said nothing"


async def _read(stream: asyncio.StreamReader, into: bytearray) -> None:
    """Read to the end or to the limit; the reader of the text sees that it is cut."""
    while len(into) < _OUTPUT_LIMIT_BYTES and (part := await stream.read(1 << 16)):
        into += part
