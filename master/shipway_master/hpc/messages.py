"""From what a launcher says about a job's end to what the user reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shipway_master.hpc.reading import DispatchEvent

_NOISY_REPORTER = "com.cray.analytics.capsules.dispatcher.shasta.ShastaDispatcher"
_PATTERNS = (
    re.compile(
        r"com\.cray\.analytics\.capsules\.carriers\.hpc\.\S+ - (?:Slurm|Pbs|PBS) job is in a (.*)",
        re.DOTALL,
    ),
    re.compile(r"(Slurm job is in a .+)", re.DOTALL),
    re.compile(r"(?:Slurm|Pbs|PBS) job process terminated with exit code \d+:\n*(.*)", re.DOTALL),
)
_EXIT_CODE = re.compile(r"Job Exited with Exit Code (\d+)")
_REASON = re.compile(r"Slurm job is in a failed state due to reason '(\w+)'")
_ANNOUNCED = "Slurm had announced its preemption"


def filter_messages(messages: Sequence[str]) -> list[str]:
    """Keep what matters of the messages; all of them if nothing is recognized. No repetitions."""
    found: list[str] = []
    for message in messages:
        captures = [match[1] for pattern in _PATTERNS if (match := pattern.search(message))]
        # The first pattern's text is the tail of the second's: one of the two is enough.
        found += [text for text in captures if not any(text != o and text in o for o in captures)]
    return list(dict.fromkeys(found or messages))


def collect_messages(events: Sequence[DispatchEvent]) -> list[str]:
    """The warnings and errors among the events, filtered."""
    return filter_messages(
        [
            event.message
            for event in events
            if event.level in ("WARNING", "ERROR") and event.reporter != _NOISY_REPORTER
        ]
    )


def find_exit_code(messages: Sequence[str]) -> int | None:
    """The job's own exit code, where a message names one that is not zero."""
    for message in messages:
        for match in _EXIT_CODE.finditer(message):
            if int(match[1]):
                return int(match[1])
    return None


def find_reason(messages: Sequence[str]) -> str | None:
    """The word by which the workload manager calls the end, where a message has it."""
    return next((match[1] for message in messages if (match := _REASON.search(message))), None)


def was_preempted(messages: Sequence[str]) -> bool:
    """Whether the workload manager took the resources away, or had said that it would."""
    return find_reason(messages) == "Preempted" or any(_ANNOUNCED in text for text in messages)


def cut_error_log(text: str, *, all_running: bool, lines: int = 15) -> str:
    """Choose what to show of a job's error log.

    Once all containers ran, their output has its own way, and only the last lines tell how the job
    ended; before that, all of it may be the reason why they did not.
    """
    text = text.rstrip("\n")
    if not text or not all_running:
        return text
    heading = "Job terminated. Most recent output from the stderr log is:"
    return "\n".join([heading, *text.split("\n")[-lines:]])
