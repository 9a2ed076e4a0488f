"""The backend on pyslurm: with its two interfaces, as doubles and, where there is one, as the real one."""

from __future__ import annotations

import asyncio
import getpass
import importlib.util
import json
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from shipway_launcher.backends import make_backend
from shipway_launcher.batch.script import render_directive
from shipway_launcher.batch.useroptions import Option
from shipway_launcher.config import load_settings
from shipway_launcher.errors import BackendRefused, BackendUnreachable, SubmissionDoubtful
from shipway_launcher.slurm.cli import CommandLineSlurm, Programs
from shipway_launcher.slurm.pyslurm import helper
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.slurm.pyslurm.guard import PyslurmChoice
from shipway_launcher.slurm.rows import SlurmJobId
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.machine import LocalMachine
from shipway_launcher.users import Users
from tests.lab.processes import is_alive

DOUBLES = Path(__file__).with_name("doubles")
PATH = "/usr/bin:/bin"
BY_SBATCH = SlurmJobId("1")
PLAIN: dict[str, str | None] = {
    "job-name": "det-x.1",
    "comment": "shipway:x.1",
    "chdir": "/tmp",
    "output": "/dev/null",
    "error": "/dev/null",
    "nodes": "1",
    "ntasks": "1",
    "propagate": "NONE",
    "no-requeue": None,
    "open-mode": "append",
}


def write_script(path: Path, changes: Mapping[str, str | None], body: str = "true") -> Path:
    options = [Option(name=name, value=value) for name, value in {**PLAIN, **changes}.items()]
    lines = [f"#SBATCH {render_directive(option)}" for option in options]
    text = "\n".join(["#!/bin/bash", *lines, "", body, ""])
    path.write_text(text, errors="surrogateescape")
    return path


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def write_python(path: Path, before: str, python: str = sys.executable) -> str:
    """Make a Python in which *before* has been run; the launcher calls it with `-I` first."""
    code = f"import runpy, sys; {before}; runpy.run_path(sys.argv[1], run_name='__main__')"
    words = shlex.join([python, "-I", "-c", code])
    path.write_text(f'#!/bin/sh\nshift\nexec {words} "$@"\n')
    path.chmod(0o755)
    return str(path)


class Double:
    """A pyslurm that does what it is told, and a Slurm whose sbatch always answers `1`."""

    def __init__(self, folder: Path, interface: str) -> None:
        self.folder = folder / "double"
        self.folder.mkdir()
        shutil.copy(DOUBLES / "fate.py", self.folder)
        shutil.copy(DOUBLES / interface / "pyslurm.py", self.folder)
        self.python = write_python(folder / "python", f"sys.path.insert(0, {str(self.folder)!r})")
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.state = "UP"
        self.set_config()
        self.add("sbatch", "echo sbatch >>$0.calls; echo 1")
        self.add("scancel", "echo scancel >>$0.calls")
        self.own = LocalTransport(getpass.getuser(), {"PATH": PATH, "X": "a=b\nc"})

    def add(self, name: str, script: str) -> None:
        """Write one of Slurm's programs."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def set_config(self, more: str = "", version: str = "22.05.8") -> None:
        """Let scontrol print a configuration."""
        text = f"SLURM_CONF = {self.bin}/slurm.conf\nSLURM_VERSION = {version}\n{more}"
        ping = f"echo 'Slurmctld(primary) at vm is {self.state}'"
        self.add("scontrol", f"if [ $1 = ping ]; then {ping}; else cat <<'END'\n{text}\nEND\nfi")

    def set_fate(self, fate: str) -> None:
        """Say what becomes of the next calls."""
        (self.folder / "fate").write_text(fate)

    def calls(self) -> list[dict[str, Any]]:
        """Return what pyslurm was called with."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def commands(self, name: str) -> int:
        """Return how often one of Slurm's programs was run."""
        path = self.bin / f"{name}.calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def make(self, *, submit_timeout_s: float = 60, is_wanted: bool = True) -> PyslurmSlurm:
        """Make the backend."""
        return make(
            self.own,
            Path(self.bin),
            self.python,
            submit_timeout_s=submit_timeout_s,
            is_wanted=is_wanted,
        )


def make(
    own: LocalTransport,
    bin_dir: Path | None,
    python: str,
    *,
    path: str = PATH,
    submit_timeout_s: float = 60,
    is_wanted: bool = True,
) -> PyslurmSlurm:
    commands = CommandLineSlurm(
        Programs(bin_dir, path, LocalMachine().find_program),
        own,
        query_timeout_s=60,
        submit_timeout_s=submit_timeout_s,
    )
    choice = PyslurmChoice(python=python, is_wanted=is_wanted)
    return PyslurmSlurm(commands, own, choice, submit_timeout_s=submit_timeout_s)


@pytest.fixture(params=["new", "old"])
def double(request: pytest.FixtureRequest, tmp_path: Path) -> Double:
    return Double(tmp_path, request.param)


@pytest.fixture
async def slurm(double: Double) -> AsyncGenerator[PyslurmSlurm]:
    backend = double.make()
    yield backend
    await backend.aclose()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return write_script(tmp_path / "job.sh", {"gpus": "a100:2", "time": "90", "mem": "1G"})


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_submission(slurm: PyslurmSlurm, double: Double, script: Path) -> None:
    assert await slurm.why_not() is None
    assert await slurm.submit(script, user=double.own) == "4711"
    assert await slurm.submit(script, user=double.own) == "4712"
    first, second = double.calls()
    assert first["pid"] == second["pid"]
    assert double.commands("sbatch") == 0
    assert first["script"] == str(script)
    assert first["time_limit"] == 90
    environment = first["environment"]
    assert environment["X"] == "a=b\nc"
    assert environment["SLURM_JOB_NAME"] == "det-x.1"
    assert environment["SLURM_GPUS"] == "a100:2"
    assert environment["SLURM_SUBMIT_DIR"] == "/"
    assert "MY_SECRET" not in environment
    assert "LC_CTYPE" not in environment  # Python adds it for itself where no locale is set


async def test_a_job_is_put_back_into_the_queue_only_if_asked_for(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    (call,) = double.calls()
    assert call.get("is_requeueable", call.get("requeue")) in (False, 0)
    assert "requeue" in call or "is_requeueable" in call


async def test_a_refusal_is_told_in_sbatchs_words(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    double.set_fate("refused")
    with pytest.raises(BackendRefused) as refused:
        await slurm.submit(script, user=double.own)
    assert refused.value.stderr == (
        "sbatch: error: invalid partition specified: nosuch\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified"
    )
    assert refused.value.exit_status == 1
    assert double.commands("sbatch") == 0


@pytest.mark.parametrize(
    ("fate", "error"), [("unreached", BackendUnreachable), ("unanswered", SubmissionDoubtful)]
)
async def test_a_controller_that_does_not_answer(
    slurm: PyslurmSlurm, double: Double, script: Path, fate: str, error: type[Exception]
) -> None:
    double.set_fate(fate)
    with pytest.raises(error):
        await slurm.submit(script, user=double.own)
    assert double.commands("sbatch") == 0


async def test_a_helper_that_dies_leaves_doubt_and_is_replaced(
    slurm: PyslurmSlurm, double: Double, script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    double.set_fate("crashes")
    with pytest.raises(SubmissionDoubtful, match="signal 11: python: fatal: something in libslurm"):
        await slurm.submit(script, user=double.own)
    double.set_fate("")
    assert await slurm.submit(script, user=double.own) == "4712"
    assert double.commands("sbatch") == 0
    assert warnings_of(caplog) == []


async def test_a_helper_that_ended_while_nobody_asked_it_leaves_no_doubt(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    pid = double.calls()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_alive(pid))
    assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert await slurm.submit(script, user=double.own) == "4712"


async def test_a_helper_that_keeps_dying_is_given_up_with_one_warning(
    slurm: PyslurmSlurm, double: Double, script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    double.set_fate("crashes")
    for _ in range(3):
        with pytest.raises(SubmissionDoubtful):
            await slurm.submit(script, user=double.own)
    assert double.commands("sbatch") == 0
    for _ in range(2):
        assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert len(double.calls()) == 3
    (warning,) = warnings_of(caplog)
    assert "submitted by sbatch: its helper was lost 3 times" in warning


async def test_a_helper_that_hangs_is_ended(double: Double, script: Path) -> None:
    slurm = double.make(submit_timeout_s=1.5)
    double.set_fate("hangs")
    with pytest.raises(SubmissionDoubtful, match=r"no answer within 1\.5 s"):
        await slurm.submit(script, user=double.own)
    assert not is_alive(double.calls()[0]["pid"])
    double.set_fate("")
    assert await slurm.submit(script, user=double.own) == "4712"
    await slurm.aclose()


async def test_a_controller_that_is_down_is_not_waited_for(
    slurm: PyslurmSlurm, double: Double, script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await slurm.submit(script, user=double.own)
    double.set_fate("hangs")
    double.state = "DOWN"
    double.set_config()
    for _ in range(3):
        with pytest.raises(BackendUnreachable, match="is DOWN"):
            await slurm.submit(script, user=double.own)
    double.set_fate("")
    assert await slurm.submit(script, user=double.own) == "4715"
    assert warnings_of(caplog) == []


async def test_others_do_not_wait_for_a_helper_that_hangs(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    double.set_fate("slow")
    async with asyncio.TaskGroup() as group:
        found = [group.create_task(slurm.submit(script, user=double.own)) for _ in range(3)]
    assert sorted(task.result() for task in found) == [BY_SBATCH, BY_SBATCH, "4712"]


async def test_a_caller_that_goes_away_takes_the_answer_with_it(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    double.set_fate("slow")
    going = asyncio.create_task(slurm.submit(script, user=double.own))
    await until(lambda: len(double.calls()) == 2)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    double.set_fate("")
    assert await slurm.submit(script, user=double.own) == "4713"


async def test_options_that_it_does_not_carry_over_go_by_sbatch(
    slurm: PyslurmSlurm, double: Double, tmp_path: Path
) -> None:
    script = write_script(tmp_path / "job.sh", {"exclusive": None})
    assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert double.calls() == []


async def test_scripts_that_pyslurm_cannot_be_given_go_by_sbatch(
    slurm: PyslurmSlurm, double: Double, tmp_path: Path
) -> None:
    long = write_script(tmp_path / "long.sh", {"comment": "x" * (1 << 17)})
    odd = write_script(tmp_path / "odd.sh", {}, body="echo \udcff")
    for script in (long, odd):
        assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert double.calls() == []


async def test_what_pyslurm_itself_refuses_to_send_goes_by_sbatch(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    double.set_fate("cannot be told")
    assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert len(double.calls()) == 1


async def test_other_users_jobs_go_by_sbatch(
    slurm: PyslurmSlurm, double: Double, script: Path
) -> None:
    other = LocalTransport("somebody", {"PATH": PATH})
    assert await slurm.submit(script, user=other) == BY_SBATCH
    await slurm.cancel([SlurmJobId("7")], user=other)
    assert double.commands("scancel") == 1
    assert double.calls() == []


async def test_a_cancel(slurm: PyslurmSlurm, double: Double) -> None:
    await slurm.cancel([SlurmJobId("8"), SlurmJobId("7")], user=double.own)
    assert [call["id"] for call in double.calls()] == [7, 8]
    assert double.commands("scancel") == 0


@pytest.mark.parametrize("fate", ["refused", "crashes", "unanswered"])
async def test_a_cancel_that_fails_is_repeated_by_scancel(
    slurm: PyslurmSlurm, double: Double, fate: str
) -> None:
    double.set_fate(fate)
    await slurm.cancel([SlurmJobId("7")], user=double.own)
    assert double.commands("scancel") == 1


async def test_signals_and_parts_of_arrays_go_by_scancel(
    slurm: PyslurmSlurm, double: Double
) -> None:
    await slurm.cancel([SlurmJobId("7")], user=double.own, signal="KILL")
    await slurm.cancel([SlurmJobId("7_1")], user=double.own)
    assert double.commands("scancel") == 2
    assert double.calls() == []


@pytest.mark.parametrize(
    ("unfit", "text"),
    [
        (lambda double: double.set_fate("crashes on import"), "SystemExit: 1"),
        (
            lambda double: (double.folder / "version").write_text("23.2.0"),
            "pyslurm 23.2.0 is not for Slurm 22.05.8",
        ),
        (lambda double: (double.folder / "pyslurm.py").write_text(""), "pyslurm"),
        (
            lambda double: (double.folder / "pyslurm.py").write_text("import os; os.abort()"),
            "signal 6",
        ),
        (
            lambda double: double.set_config("CliFilterPlugins = cli_filter/lua\n"),
            "CliFilterPlugins=cli_filter/lua",
        ),
        (lambda double: os.unlink(double.python), "cannot run"),
    ],
    ids=["import fails", "other release", "empty", "import crashes", "cli filter", "no python"],
)
async def test_what_cannot_be_used_is_named_in_one_warning(
    double: Double,
    slurm: PyslurmSlurm,
    script: Path,
    caplog: pytest.LogCaptureFixture,
    unfit: Callable[[Double], object],
    text: str,
) -> None:
    unfit(double)
    for _ in range(2):
        assert await slurm.submit(script, user=double.own) == BY_SBATCH
    (warning,) = warnings_of(caplog)
    assert text in warning
    assert text in (await slurm.why_not() or "")
    assert double.calls() == []


@pytest.mark.parametrize("is_wanted", [True, False])
async def test_where_there_is_none_only_who_asked_for_it_is_warned(
    double: Double, script: Path, caplog: pytest.LogCaptureFixture, is_wanted: bool
) -> None:
    (double.folder / "pyslurm.py").unlink()
    slurm = double.make(is_wanted=is_wanted)
    assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert len(warnings_of(caplog)) == (1 if is_wanted else 0)
    await slurm.aclose()


async def test_a_helper_that_has_done_much_is_replaced(
    double: Double, slurm: PyslurmSlurm, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    held = slurm._helper._helper
    assert held is not None
    held._calls = 5000
    assert await slurm.submit(script, user=double.own) == "4712"
    first, second = double.calls()
    assert first["pid"] != second["pid"]


async def test_after_an_upgrade_of_slurm_another_pyslurm_is_looked_for(
    double: Double, slurm: PyslurmSlurm, script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await slurm.submit(script, user=double.own)
    (double.folder / "version").write_text("24.11.0")
    double.set_config(version="24.11.5")
    slurm._helper._checked_until = 0  # as after ten minutes
    assert await slurm.submit(script, user=double.own) == "4712"
    first, second = double.calls()
    assert first["pid"] != second["pid"]
    assert warnings_of(caplog) == []


async def test_while_slurm_does_not_answer_sbatch_is_left_to_say_so(
    double: Double, slurm: PyslurmSlurm, script: Path
) -> None:
    double.add("scontrol", "echo Unable to contact slurm controller >&2; exit 1")
    assert await slurm.submit(script, user=double.own) == BY_SBATCH
    assert double.calls() == []


async def test_the_helper_ends_with_the_backend(
    double: Double, slurm: PyslurmSlurm, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    await slurm.aclose()
    assert not is_alive(double.calls()[0]["pid"])


async def test_the_helper_ends_with_the_launcher(
    double: Double, slurm: PyslurmSlurm, script: Path
) -> None:
    await slurm.submit(script, user=double.own)
    held = slurm._helper._helper
    assert held is not None
    held._requests.close()  # as the kernel does when a process is killed
    await until(lambda: not is_alive(double.calls()[0]["pid"]))


def test_the_old_interface_gets_texts_whose_bytes_stay() -> None:
    """It hands libslurm the address of bytes that it lets go of at once."""
    seen: list[bytes] = []

    class Job:
        def submit_batch_job(self, options: dict[str, Any]) -> int:
            for name in ("comment", "output"):
                first, second = options[name].encode("UTF-8", "replace"), options[name].encode()
                assert first is second
                seen.append(first)
            return 7

    class Pyslurm:
        __version__ = "20.2.0"
        job = Job

    fields = {"comment": "ü", "output": "/x"}
    assert helper.OldInterface(Pyslurm()).submit("/x", fields, dict(os.environ)) == 7
    assert seen == ["ü".encode(), b"/x"]


@pytest.mark.parametrize(
    ("settings", "is_looked_for"),
    [
        ({}, False),  # the tests' own Python has none
        ({"backend": "cli", "pyslurm_python": "/other/python"}, False),
        ({"pyslurm_python": "/other/python"}, True),
        ({"backend": "pyslurm"}, True),
    ],
    ids=str,
)
def test_a_process_is_started_only_where_there_may_be_a_pyslurm(
    settings: dict[str, str], is_looked_for: bool
) -> None:
    if importlib.util.find_spec("pyslurm"):
        pytest.skip("here is a pyslurm")
    loaded = load_settings(file_text=json.dumps({"slurm": settings}))
    assert isinstance(make_backend(loaded, Users(loaded)), PyslurmSlurm) == is_looked_for
