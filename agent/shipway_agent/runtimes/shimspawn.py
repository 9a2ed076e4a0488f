"""How a shim starts its program: with nothing of the shim's own but what it was given."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shipway_agent.runtimes.shimfiles import Launch

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Make orphans below this process its children, so that none of them can get away."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reset_signals() -> None:
    """Undo what was ignored or blocked by whoever started us; a task would inherit it."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):  # the C library keeps some for itself
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def spawn(
    argv: Sequence[str], launch: Launch, *, pass_fds: tuple[int, ...] = ()
) -> tuple[int, int, int]:
    """Start *argv* with the environment, folder and user of *launch*.

    Returns:
        Its pid, and the ends of two pipes from which its stdout and stderr can be read. The caller
        reaps it.

    Raises:
        OSError: The program, or the folder, cannot be used; `filename` says which.
    """
    user, group = launch.user or (None, None)
    with contextlib.ExitStack() as stack:
        (out, out_write), (err, err_write) = (_make_output(launch, stack) for _ in range(2))
        process = subprocess.Popen(  # noqa: S603 (running what we are told to is the purpose)
            argv,
            env=launch.environment,
            cwd=launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            start_new_session=True,
            umask=0o022,
            pass_fds=pass_fds,
            preexec_fn=_before_exec,
            user=user,
            group=group,
            extra_groups=None if launch.user is None else [],
        )
        process.returncode = 0  # we reap by number; Popen must not wait for it as well
        return process.pid, os.dup(out), os.dup(err)


def memory_file(words: Sequence[str]) -> int:
    """Return a descriptor from which *words* can be read, each with a zero byte behind it."""
    descriptor = os.memfd_create("arguments")
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(b"".join(os.fsencode(word) + b"\0" for word in words))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def run_aside(argv: Sequence[str], launch: Launch) -> None:
    """Start a helper with the same environment; the caller reaps it, its output is dropped."""
    process = subprocess.Popen(  # noqa: S603
        argv,
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process.returncode = 0


def _make_output(launch: Launch, stack: contextlib.ExitStack) -> tuple[int, int]:
    """Make a pipe that the task's user may open anew, by its name in /proc; *stack* closes it."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    owner = launch.output_user or launch.user
    if owner is not None:
        os.fchown(ends[1], *owner)
    return ends


def _before_exec() -> None:
    """Set, in the new process, what only it can set for itself."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the task does not outlive its shim
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        # The agent may be protected from the kernel's choice of whom to kill; tasks are not.
        if int(score.read_text(encoding="ascii")) < 0:
            score.write_text("0", encoding="ascii")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")
