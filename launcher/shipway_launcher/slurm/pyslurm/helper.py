"""Use pyslurm for the launcher, in a process that nobody misses when libslurm hangs or ends it.

PYTHON -I helper.py

The first line on standard output says which pyslurm this is, or why there is none. Then each line on
standard input is a request and each line on standard output its answer, as JSON, one at a time; the end
of the input is the end of the helper. It runs in whichever Python has pyslurm, which may be older than
the launcher's and hold nothing of ours: only the standard library is used, of Python 3.8 or later.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

# What libslurm takes for "not given". Up to 25.11, pyslurm asks for one task with one CPU where it is
# given none, which sbatch does not; it hands these numbers on as they are.
_NO_NUMBER = 0xFFFFFFFE
_NO_SHORT = 0xFFFE

_OPEN_MODES = {"append": 1, "truncate": 2}

_NEW_NAMES = {
    "name": "name",
    "comment": "comment",
    "account": "account",
    "partition": "partitions",
    "qos": "qos",
    "reservation": "reservations",
    "wckey": "wckey",
    "constraint": "constraints",
    "exclude": "excluded_nodes",
    "chdir": "working_directory",
    "input": "standard_in",
    "output": "standard_output",
    "error": "standard_error",
    "open_mode": "log_files_open_mode",
    "requeue": "is_requeueable",
    "tres_per_job": "gpus",
    "tres_per_node": "gres_per_node",
    "ntasks_per_node": "ntasks_per_node",
    "memory_mib": "memory_per_node",
    "time_min": "time_limit",
    "priority": "priority",
}

_OLD_NAMES = {
    "name": "job_name",
    "comment": "comment",
    "account": "account",
    "partition": "partition",
    "qos": "qos",
    "reservation": "reservation",
    "wckey": "wckey",
    "constraint": "constraints",
    "exclude": "exc_nodes",
    "chdir": "work_dir",
    "input": "input",
    "output": "output",
    "error": "error",
    "ntasks": "ntasks",
    "ntasks_per_node": "ntasks_per_node",
    "cpus_per_task": "cpus_per_task",
    "min_nodes": "min_nodes",
    "max_nodes": "max_nodes",
    "memory_mib": "realmem",
    "time_min": "time_limit",
}


class _Text(str):
    """A text whose bytes stay where they are.

    The old interface encodes each text and points libslurm at the bytes, which Python has freed, and
    often overwritten, by the time when libslurm reads them. Encoded by this class they are kept.
    """

    __slots__ = ("_kept",)

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the same bytes each time."""
        if not hasattr(self, "_kept"):
            self._kept = str.encode(self, encoding, "strict")
        return self._kept


class _No(int):
    """A zero that the old interface does not take for "not given"."""

    def __bool__(self) -> bool:
        return True


class Refused(Exception):
    """libslurm or the controller said no, or nothing."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number, self.text = number, text


class NewInterface:
    """`JobSubmitDescription` and `Job`, of pyslurm 21.8 and later."""

    name = "new"

    def __init__(self, pyslurm: Any) -> None:
        self._pyslurm = pyslurm

    def submit(self, script: str, fields: dict[str, Any], environment: dict[str, str]) -> int:
        """Submit a script."""
        given = {_NEW_NAMES[key]: value for key, value in fields.items() if key in _NEW_NAMES}
        description = self._pyslurm.JobSubmitDescription(
            script=script,
            script_args=[script],
            environment=environment,
            nodes="{min_nodes}-{max_nodes}".format(**fields),
            ntasks=fields.get("ntasks", _NO_NUMBER),
            cpus_per_task=fields.get("cpus_per_task", _NO_SHORT),
            min_cpus_per_node=fields["min_cpus"],  # it sets the job's least number of CPUs
            profile_types=iter(()),  # no profile; with nothing at all, all kinds of them
            **given,
        )
        return int(self._rpc(description.submit))

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        self._rpc(self._pyslurm.Job(job_id).cancel)

    def _rpc(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._pyslurm.RPCError as error:
            raise Refused(int(error.errno or 0), str(error)) from error


class OldInterface:
    """`job().submit_batch_job` and `slurm_kill_job`, the only ones before 21.8."""

    name = "old"

    def __init__(self, pyslurm: Any) -> None:
        self._pyslurm = pyslurm
        numbers = [int(part) for part in re.findall(r"\d+", _version_of(pyslurm))[:2]]
        self._prefix = "gres:" if numbers >= [21, 8] else ""

    def submit(self, script: str, fields: dict[str, Any], environment: dict[str, str]) -> int:
        """Submit a script; the job gets this process's environment, whatever that is."""
        options = {_OLD_NAMES[key]: value for key, value in fields.items() if key in _OLD_NAMES}
        options["script"] = script
        for key in ("tres_per_job", "tres_per_node"):
            if key in fields:
                options[key] = ",".join(self._prefix + part for part in fields[key].split(","))
        if "open_mode" in fields:
            options["open_mode"] = _OPEN_MODES[fields["open_mode"]]
        if "requeue" in fields:
            options["requeue"] = 1 if fields["requeue"] else _No(0)
        if fields.get("priority") == 0:
            options["hold"] = True
        options = {
            key: _Text(value) if isinstance(value, str) else value for key, value in options.items()
        }
        os.environ.clear()
        os.environ.update(environment)
        try:
            return int(self._pyslurm.job().submit_batch_job(options))
        except ValueError as error:
            if "Batch job submission failed" not in str(error.args[:1]):
                raise
            number = int(self._pyslurm.slurm_get_errno())
            # It formats the bytes of libslurm's text, marks and all.
            text = re.sub(r"^b(['\"])(.*)\1$", r"\2", str(self._pyslurm.slurm_strerror(number)))
            raise Refused(number, text) from error

    def cancel(self, job_id: int) -> None:
        """Cancel a job."""
        try:
            self._pyslurm.slurm_kill_job(job_id, 9, 0)
        except ValueError as error:
            text, *numbers = error.args or ("",)
            raise Refused(int(numbers[0]) if numbers else 0, str(text)) from error


class Said:
    """What libslurm writes to standard error, which is a file, beside what pyslurm raises."""

    def __init__(self) -> None:
        self._start = 0

    def begin(self) -> None:
        """Forget what was said before."""
        self._start = os.fstat(2).st_size

    def text(self) -> str:
        """Return what was said since."""
        found = os.pread(2, 1 << 14, self._start)
        return found.decode("utf-8", "replace")


def serve(
    interface: Any, requests: Iterator[str], answer: Callable[[dict[str, Any]], None]
) -> None:
    """Do what is asked for until there is nothing more."""
    said, own = Said(), _own_variables()
    for line in requests:
        request: dict[str, Any] = json.loads(line)
        said.begin()
        try:
            found = _do(interface, request, own)
        except Refused as error:
            found = {"refused": error.text, "errno": error.number, "said": said.text()}
        except (Exception, SystemExit) as error:  # noqa: BLE001 (nothing was sent: see the launcher)
            found = {"unable": f"{type(error).__name__}: {error}", "said": said.text()}
        answer({"call": request["call"], **found})


def _do(interface: Any, request: dict[str, Any], own: dict[str, str]) -> dict[str, Any]:
    if request["do"] == "submit":
        environment = {**own, **request["environment"]}
        return {"id": interface.submit(request["script"], request["fields"], environment)}
    for job_id in request["ids"]:
        interface.cancel(int(job_id))
    return {}


def _own_variables() -> dict[str, str]:
    """Return what sbatch tells a job of where it was submitted."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "SLURM_PRIO_PROCESS": str(os.getpriority(os.PRIO_PROCESS, 0)),
        "SLURM_SUBMIT_DIR": os.getcwd(),
        "SLURM_SUBMIT_HOST": socket.gethostname(),
        "SLURM_UMASK": f"{mask:04o}",
    }


def _version_of(pyslurm: Any) -> str:
    version = getattr(pyslurm, "__version__", "")
    return str(version if isinstance(version, str) and version else pyslurm.version())


def _load() -> tuple[Any, dict[str, Any]]:
    """Import pyslurm and say what it is."""
    try:
        import pyslurm  # type: ignore[import-not-found, unused-ignore]
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, there is no pyslurm)
        return None, {"unusable": f"{type(error).__name__}: {error}"}
    module: Any = pyslurm
    kind = next(
        (
            kind
            for kind, needed in (
                (NewInterface, ("JobSubmitDescription", "Job", "RPCError")),
                (OldInterface, ("job", "slurm_kill_job", "slurm_get_errno", "slurm_strerror")),
            )
            if all(hasattr(module, name) for name in needed)
        ),
        None,
    )
    if kind is None:
        return None, {"unusable": "this pyslurm has neither of its two interfaces"}
    return kind(module), {"version": _version_of(module), "interface": kind.name}


def main() -> None:
    """Answer on what standard output was at the start; what else is printed goes to the errors."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(found: dict[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    interface, hello = _load()
    answer(hello)
    if interface is not None:
        serve(interface, iter(sys.stdin.readline, ""), answer)


if __name__ == "__main__":
    main()
