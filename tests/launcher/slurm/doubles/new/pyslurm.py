"""pyslurm with the interface of 21.8 to 25.11."""

from __future__ import annotations

from typing import Any

from fate import FOLDER, meet, next_id

_version = FOLDER / "version"
__version__ = _version.read_text() if _version.exists() else "22.5.3"
if (FOLDER / "fate").exists() and (FOLDER / "fate").read_text() == "crashes on import":
    raise SystemExit(1)


class RPCError(Exception):
    """What every call raises that Slurm does not fulfil."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno


class JobSubmitDescription:
    """A job to be; it has the attributes that the real one has, and takes no others."""

    __slots__ = (
        *("account", "comment", "constraints", "cpus_per_task", "environment", "excluded_nodes"),
        *("gpus", "gres_per_node", "is_requeueable", "log_files_open_mode", "memory_per_node"),
        *("min_cpus_per_node", "name", "nodes", "ntasks", "ntasks_per_node", "partitions"),
        *("priority", "profile_types", "qos", "reservations", "script", "script_args"),
        *("standard_error", "standard_in", "standard_output", "time_limit", "wckey"),
        "working_directory",
    )

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            setattr(self, name, value)

    def submit(self) -> int:
        """Submit it."""
        told = {name: getattr(self, name) for name in self.__slots__ if hasattr(self, name)}
        if isinstance(told.get("time_limit"), str) and told["time_limit"].isdigit():
            raise TypeError("an integer is required")
        if not told["profile_types"]:
            raise AssertionError("without profile types the real one asks for all of them")
        number, text = meet("submit", **told)
        if number:
            raise RPCError(number, text)
        return next_id()


class Job:
    """A job by its number."""

    def __init__(self, job_id: int) -> None:
        assert isinstance(job_id, int)
        self.id = job_id

    def cancel(self) -> None:
        """Cancel it; one that Slurm does not know is no error."""
        number, text = meet("cancel", id=self.id)
        if number and number != 2017:
            raise RPCError(number, text)
