"""What NVML's status numbers mean, and what its answers say about the health of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIBRARY_NOT_FOUND = 12

_NOT_SUPPORTED = frozenset({3, 13, 22, 25, 26})
"""Not supported; no such function in this library; no ECC in a vGPU; another version; retired."""
_HIDDEN = 4
"""No permission: in a container or a virtual machine much of the host's is."""

_LARGEST_COUNT = 1 << 48
"""Numbers beyond are a driver's way to say nothing: all bits set."""

_meanings: Mapping[int, str] = {
    4: "no permission: the agent's user must be allowed to open /dev/nvidiactl and /dev/nvidia*",
    9: "the kernel module is not loaded: try `modprobe nvidia`, or reboot",
    10: "the driver ran into its own time limit",
    11: "an interrupt of the GPU is stuck",
    LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed: install the driver's library, or, in a"
    " container, start it with the GPUs",
    13: "the driver is too old",
    14: "the GPU's inforom is damaged",
    15: "the GPU is lost (fell off the bus): reboot, and look at its power and seating",
    16: "the GPU must be reset",
    18: "library and kernel module are of different driver releases: reboot, or reload the module",
    23: "the driver is out of resources",
    999: "the driver says only that something failed: look for NVRM lines in dmesg",
}


def describe_error(number: int) -> str:
    """Say what an NVML status means and what to do about it."""
    return f"NVML error {number}: {_meanings.get(number, 'see nvml.h')}"


def read_count(answer: Any) -> int | None:
    """Return a number that was told; None if there is none, for whatever reason."""
    match answer:
        case {"value": int(number)} if (
            not isinstance(number, bool) and 0 <= number < _LARGEST_COUNT
        ):
            return number
        case _:
            return None


def judge(gpu: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """Judge a GPU by what the probe told of it.

    Returns:
        Its problem, the gravest if there are several, and each check with its answer in words.
        What is not supported, or hidden, is an answer, and no problem; what failed is one.
    """
    problems: list[str] = []
    checks: dict[str, str] = {}
    for name, key, look in _checks:
        words, problem = _look(name, gpu.get(key), look)
        checks[name] = words
        if problem:
            problems.append(problem)
    if failed := _find_failure(gpu, "memory_bytes", "pci_bus", "mig_mode"):
        problems.append(failed)
    return (problems[0] if problems else None), checks


def find_unanswered(answer: Any) -> str | None:
    """Say in words why there is no value: `not supported`, `not told` or `failed: …`."""
    match answer:
        case {"value": _}:
            return None
        case {"error": int(number)} if number in _NOT_SUPPORTED:
            return "not supported"
        case {"error": int(number)} if number == _HIDDEN:
            return "not told: no permission"
        case {"error": int(number)}:
            return f"failed: {describe_error(number)}"
        case _:
            return "not told"


def _look(name: str, answer: Any, look: Any) -> tuple[str, str | None]:
    why = find_unanswered(answer)
    if why is not None:
        return why, f"{name}: {why}" if why.startswith("failed") else None
    words, problem = look(answer["value"])
    return words, problem


def _find_failure(gpu: Mapping[str, Any], *keys: str) -> str | None:
    for key in keys:
        why = find_unanswered(gpu.get(key))
        if why is not None and why.startswith("failed"):
            return why.removeprefix("failed: ")
    return None


def _look_at_rows(rows: Any) -> tuple[str, str | None]:
    match rows:
        case [int(), int(), int(pending), int(failed)]:
            if failed:
                return "failed", "memory rows could not be remapped: the GPU must be replaced"
            if pending:
                return "pending", "memory rows wait to be remapped: the GPU must be reset"
            return "none pending", None
        case _:
            return "not told", None


def _look_at_pages(pending: Any) -> tuple[str, str | None]:
    if pending == 1:
        return "pending", "memory pages wait to be retired: the GPU must be reset"
    return ("none pending" if pending == 0 else "not told"), None


def _look_at_ecc(count: Any) -> tuple[str, str | None]:
    number = read_count({"value": count})
    if number is None:
        return "not told", None
    if number == 0:
        return "0", None
    return str(number), (
        f"{number} uncorrectable memory errors (ECC) since the driver was loaded: the GPU must be"
        " reset, and replaced if they come again"
    )


# Gravest first: of several problems the first is told.
_checks = (
    ("row remapping", "remapped_rows", _look_at_rows),
    ("page retirement", "retirement_pending", _look_at_pages),
    ("uncorrectable ECC errors", "uncorrected_ecc", _look_at_ecc),
)
