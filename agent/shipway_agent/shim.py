"""The small process that holds a task for runtimes without a service of their own.

`python -m shipway_agent.shim FOLDER` starts what FOLDER/launch.json says, in a session of its own,
keeps its output and its exit status in FOLDER, and is there until the last process of the task is
gone. The agent may end and come back meanwhile; it finds everything in FOLDER (`shimfiles`).

Should the shim be killed, a guard above it kills what is left of the task, whose exit status nobody
knows then. SIGTERM ends the task with all its processes at once. The command returns when the program was
started or refused; a text on stderr and exit status 1 mean that the shim itself did not work.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from shipway_agent.runtimes.chunks import STDERR, STDOUT
from shipway_agent.runtimes.oom import OomCounter
from shipway_agent.runtimes.payload import (
    find_apptainer_payload,
    find_bubblewrap_payload,
    find_enroot_payload,
)
from shipway_agent.runtimes.processes import (
    ProcessIdentity,
    descendants,
    find_process,
    identify,
    kill_all,
)
from shipway_agent.runtimes.shimfiles import (
    CLAIM,
    EXIT,
    LAUNCH,
    LOG,
    LOST,
    READ_ON,
    STARTED,
    ExitRecord,
    Launch,
    PayloadKind,
    StartedRecord,
    load_launch,
    save_record,
)
from shipway_agent.runtimes.shimoutput import OutputFiles, ReservedRecord
from shipway_agent.runtimes.shimspawn import (
    become_subreaper,
    memory_file,
    reset_signals,
    run_aside,
    spawn,
)

_READ_BYTES = 1 << 18
_POLL_INTERVAL_S = 0.02
_SEARCH_INTERVAL_MAX_S = 0.25
"""How often to look for the task's first process, once that takes long: images can take an hour."""
_DRAIN_LIMIT_S = 3.0
"""How long output is read on that a process outside the task still holds open after its end."""
_FIRST_SCRIPT_FAILED = re.compile(rb"(?:/proc/self/fd/[0-9]+|/etc/rc): .*\b(?:exec|cd): ")
"""A container's shell, about enroot's first script or the image's."""
_CLIENT_LIMIT_S = 20.0
"""How long a client may take to end once its container was killed."""


def main() -> None:
    """Run as a command; the first argument is the folder."""
    folder = Path(sys.argv[1])
    report_read, report_write = os.pipe()
    if os.fork():
        os.close(report_write)
        with os.fdopen(report_read, "rb") as stream:
            problem = stream.read()
        if not problem and not any((folder / name).exists() for name in (STARTED, EXIT)):
            problem = b"it ended before it had started anything\n"
        sys.stderr.buffer.write(problem)
        sys.stderr.flush()
        os._exit(1 if problem else 0)
    os.close(report_read)
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    try:
        claim = _claim(folder)
        if claim is None:
            return
        launch = load_launch(folder / LAUNCH)
        if launch.kind is not PayloadKind.PODMAN:
            _guard((report_write, claim), folder)
        _Shim(folder, report_write, launch).run()
    except BaseException:
        problem = traceback.format_exc().encode()
        with contextlib.suppress(OSError):  # nobody waits for it after the start
            os.write(report_write, problem)
        with contextlib.suppress(OSError):
            (folder / LOG).write_bytes(problem)
        raise


def _claim(folder: Path) -> int | None:
    """Take the folder for as long as this process lives; None if another shim has or had it."""
    try:
        claim = os.open(folder / CLAIM, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return None
    fcntl.flock(claim, fcntl.LOCK_EX)
    return claim


def _guard(not_ours: Iterable[int], folder: Path) -> None:
    """Go on in a child, and stay as its guard: what a child that fails leaves is killed here."""
    become_subreaper()
    child = os.fork()
    if child == 0:
        return
    for descriptor in not_ours:
        os.close(descriptor)
    os.dup2(1, 0)  # the tether is not ours to hold
    _, status = os.waitpid(child, 0)
    if status != 0:
        _end_all()
        with contextlib.suppress(OSError):  # it may be removed already, or the disk be full
            (folder / LOST).touch(mode=0o600)
    os._exit(0)


def _end_all() -> None:
    """End all processes below this one, again and again, for what is killed may be forking."""
    while left := descendants(os.getpid()):
        kill_all(left)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(_POLL_INTERVAL_S)


class _Shim:
    """One task from its start to the end of its last process."""

    def __init__(self, folder: Path, report: int, launch: Launch) -> None:
        # Set once.
        self._folder = folder
        self._report = report
        self._launch = launch
        self._output = OutputFiles(folder, self._launch.output_limit_bytes)
        self._exit_record = ReservedRecord(folder / EXIT)
        self._oom = OomCounter()
        self._selector = selectors.DefaultSelector()
        # What we know of the task.
        self._main_pid = 0
        self._main: ProcessIdentity | None = None
        self._payload: ProcessIdentity | None = None
        self._is_payload_saved = False
        self._search_interval_s = _POLL_INTERVAL_S
        self._init_pid: int | None = None
        self._mark = self._launch.mark.encode("ascii")
        self._before_mark = b""
        self._has_exit_status = False
        self._main_status: int | None = None
        self._has_children = True
        self._outputs: dict[int, Callable[[], None]] = {}
        self._is_held_up = False
        self._held_up_until = 0.0
        self._killed_at: float | None = None

    def run(self) -> None:
        """Start the program, hold it, and write down how it ended."""
        self._listen()
        if self._holds_processes:
            become_subreaper()
        try:
            self._start()
        except OSError as error:
            _end_all()  # it may run already, and nobody could be told of it
            self._exit_record.save(_refusal(error))
            os.close(self._report)
            return
        os.close(self._report)
        while not self._is_over():
            self._step()
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        self._let_go()
        while self._outputs and time.monotonic() < deadline:
            self._handle_events(_POLL_INTERVAL_S)
        self._output.write(STDERR, self._before_mark)
        self._output.close()
        self._exit_record.save(self._ending())

    @property
    def _holds_processes(self) -> bool:
        """Whether the task's processes are all below this one, so that we can end them."""
        return self._launch.kind is not PayloadKind.PODMAN

    def _listen(self) -> None:
        reset_signals()
        wake_read, wake_write = os.pipe()
        for descriptor in (wake_read, wake_write):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        # The last two are not for us. They get a handler as well, for a program that is started
        # later would inherit it if they were ignored; Popen resets the two that are.
        for number in (signal.SIGCHLD, signal.SIGTERM, READ_ON, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, _wake)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN)

        def take_signals() -> None:
            numbers = os.read(wake_read, 4096)
            if READ_ON in numbers:
                self._output.drop_rather()
                self._let_go()
            if signal.SIGTERM in numbers:
                self._kill()

        self._watch(wake_read, take_signals)
        if self._launch.tethered:
            self._watch(0, self._take_tether)

    def _start(self) -> None:
        argv = list(self._launch.argv)
        pass_fds: tuple[int, ...] = ()
        if self._launch.kind is PayloadKind.BUBBLEWRAP:
            status_read, status_write = os.pipe()
            arguments = memory_file(self._launch.hidden_arguments)
            argv[1:1] = ["--json-status-fd", str(status_write), "--args", str(arguments)]
            pass_fds = (status_write, arguments)
            self._watch_bubblewrap(status_read)
        try:
            self._main_pid, stdout, stderr = spawn(argv, self._launch, pass_fds=pass_fds)
        finally:
            for descriptor in pass_fds:
                os.close(descriptor)
        self._watch_output(STDOUT, stdout)
        self._watch_output(STDERR, stderr)
        self._main = identify(self._main_pid)
        if self._launch.kind is PayloadKind.PROCESS:
            self._payload = self._main
        self._save_started()
        (self._folder / LAUNCH).unlink()  # the secrets in it have done their work

    def _save_started(self) -> None:
        shim = identify(os.getpid())
        assert shim is not None
        assert self._main is not None  # even a zombie has an identity, and we have not reaped it
        found = [find_process(one.pid) for one in (self._main, self._payload) if one is not None]
        sessions = dict.fromkeys([self._main_pid, *(stat.session for stat in found if stat)])
        record = StartedRecord(
            shim=shim,
            guard=identify(os.getppid()) if self._holds_processes else None,
            main=self._main,
            payload=self._payload,
            sessions=tuple(sessions),
        )
        save_record(self._folder / STARTED, record)
        self._is_payload_saved = self._payload is not None

    def _is_over(self) -> bool:
        return self._main_status is not None and not (self._holds_processes and self._has_children)

    def _step(self) -> None:
        ending = self._main_status is not None or self._killed_at is not None
        searching = self._holds_processes and not self._is_payload_saved
        limit_s = self._search_interval_s if searching else None
        self._handle_events(_POLL_INTERVAL_S if ending or self._is_held_up else limit_s)
        self._hold_up()
        if searching:
            self._look_for_payload()
        self._reap()
        if self._main_status is not None or self._killed_at is not None:
            self._end_processes()

    def _handle_events(self, limit_s: float | None) -> None:
        for key, _ in self._selector.select(limit_s):
            key.data()

    def _watch(self, descriptor: int, handle: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, handle)

    def _unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _watch_output(self, stream: int, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        with contextlib.suppress(OSError):  # more than an ordinary user may have
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _READ_BYTES)

        def take_output() -> None:
            data = os.read(descriptor, _READ_BYTES)
            if data:
                if stream == STDERR and self._mark:
                    data = self._cut_mark(data)
                self._output.write(stream, data)
            else:
                self._unwatch(descriptor)
                del self._outputs[descriptor]

        self._outputs[descriptor] = take_output
        self._watch(descriptor, take_output)

    def _cut_mark(self, data: bytes) -> bytes:
        """Take the mark out of what came on stderr; it may come in two pieces."""
        before, found, after = (self._before_mark + data).partition(self._mark)
        if not found:
            kept = len(self._mark) - 1
            self._before_mark = before[-kept:]
            return before[:-kept]
        self._mark = self._before_mark = b""
        self._output.write(STDERR, before)
        self._output.forget_tail()
        return after

    def _hold_up(self) -> None:
        """Read no more while too much waits for its reader, so that the task waits as well."""
        if self._is_held_up:
            if self._output.look_for_room():
                self._let_go()
            elif time.monotonic() > self._held_up_until:
                self._output.drop_rather()
                self._let_go()
        elif not self._output.is_dropping and not self._output.look_for_room():
            self._is_held_up = True
            self._held_up_until = time.monotonic() + self._launch.output_patience_s
            for descriptor in self._outputs:
                self._selector.unregister(descriptor)

    def _let_go(self) -> None:
        if self._is_held_up:
            self._is_held_up = False
            for descriptor, take_output in self._outputs.items():
                self._watch(descriptor, take_output)

    def _watch_bubblewrap(self, descriptor: int) -> None:
        received = bytearray()

        def take_status() -> None:
            data = os.read(descriptor, _READ_BYTES)
            if not data:
                self._unwatch(descriptor)
                return
            received.extend(data)
            while (end := received.find(b"\n")) >= 0:
                status = json.loads(received[:end])
                del received[: end + 1]
                self._init_pid = status.get("child-pid", self._init_pid)
                # bwrap reports an exit status only of a program that it could start
                self._has_exit_status = self._has_exit_status or "exit-code" in status

        self._watch(descriptor, take_status)

    def _take_tether(self) -> None:
        if not os.read(0, _READ_BYTES):
            self._selector.unregister(0)
            self._kill()

    def _look_for_payload(self) -> None:
        if self._payload is None:
            self._payload = self._find_payload()
        if self._payload is not None:
            with contextlib.suppress(OSError):  # the disk may be full: then again soon
                self._save_started()
        self._search_interval_s = min(self._search_interval_s * 1.2, _SEARCH_INTERVAL_MAX_S)

    def _find_payload(self) -> ProcessIdentity | None:
        if self._launch.kind is PayloadKind.APPTAINER:
            return find_apptainer_payload(self._main_pid)
        if self._launch.kind is PayloadKind.ENROOT:
            return None if self._mark else find_enroot_payload(self._main_pid)
        return None if self._init_pid is None else find_bubblewrap_payload(self._init_pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._has_children = False
                return
            if pid == 0:
                return
            if pid == self._main_pid:
                self._main_status = status

    def _kill(self) -> None:
        if self._killed_at is None:
            self._killed_at = time.monotonic()
            if self._launch.kill_argv is not None:
                run_aside(self._launch.kill_argv, self._launch)

    def _end_processes(self) -> None:
        """Kill what is left; called again and again, for what is killed may be forking."""
        if self._holds_processes:
            kill_all(descendants(os.getpid()))
        elif (
            self._killed_at is not None
            and time.monotonic() - self._killed_at > _CLIENT_LIMIT_S
            and self._main is not None
        ):
            self._main.send(signal.SIGKILL)

    def _ending(self) -> ExitRecord:
        assert self._main_status is not None
        number = os.WTERMSIG(self._main_status) if os.WIFSIGNALED(self._main_status) else None
        code = os.waitstatus_to_exitcode(self._main_status) if number is None else 128 + number
        killed = self._killed_at is not None
        launched = killed or self._was_launched(code)
        # Podman knows whether its container ran; these are the words of its client if it did not.
        tells = not launched or self._launch.kind is PayloadKind.PODMAN
        return ExitRecord(
            code=code,
            signal=number,
            launched=launched,
            killed=killed,
            out_of_memory=code == 128 + signal.SIGKILL and not killed and self._oom.has_grown(),
            message=self._output.stderr_tail.decode(errors="replace").strip() if tells else "",
        )

    def _was_launched(self, code: int) -> bool:
        if self._launch.kind is PayloadKind.PODMAN or self._payload is not None:
            return True
        # A program may end before we see it. These are refusals by what should have started it.
        last_line = self._output.stderr_tail.rstrip().rpartition(b"\n")[2]
        if self._launch.kind is PayloadKind.ENROOT:
            return not self._mark and not (
                code in {126, 127} and _FIRST_SCRIPT_FAILED.match(last_line)
            )
        if self._launch.kind is PayloadKind.APPTAINER:
            return not (code == 255 and b"FATAL" in last_line)
        return self._has_exit_status and not last_line.startswith(b"setpriv: failed to execute")


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: that there is a handler makes the signal come through the wake-up pipe."""


def _refusal(error: OSError) -> ExitRecord:
    """Return what a shell says when it cannot start a program."""
    missing = isinstance(error, FileNotFoundError)
    name = f"{error.filename!r}: " if error.filename else ""
    return ExitRecord(
        code=127 if missing else 126,
        signal=None,
        launched=False,
        message=f"{name}{error.strerror or error}",
    )


if __name__ == "__main__":
    main()
