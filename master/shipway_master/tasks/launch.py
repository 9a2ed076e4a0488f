"""Everything that is needed to start a task's containers, the same for agents and for Slurm."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shipway_master.allocations.ids import AllocationId, TaskId
from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, RUN_DIR, TaskFile
from shipway_master.tasks.model import DEFAULT_WORK_DIR, TaskConfig
from shipway_master.tasks.service import Equipment


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUser:
    """Whom the task's processes run as on the nodes."""

    user: str = "root"
    uid: int = 0
    group: str = "root"
    gid: int = 0
    is_chosen: bool = False
    """Somebody linked it to the owner or set it in the master's settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcd:
    """The task container defaults that are no part of a task's own configuration."""

    network_mode: str = "bridge"
    gloo_port_range: str | None = None
    nccl_port_range: str | None = None
    dtrain_network_interface: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One allocation's start."""

    task_id: TaskId
    task_type: str
    """As the API calls it, without its prefix."""
    allocation_id: AllocationId
    label: str
    """Short name for containers and jobs, as `cmd-<task id>`."""
    owner: str
    """Name of the user who owns the task."""
    config: TaskConfig
    """With the defaults applied."""
    tcd: Tcd
    agent_user: AgentUser
    token: str = field(repr=False)
    """The allocation's; ends with it."""
    files: Sequence[TaskFile] = field(repr=False)
    uses_tls: bool = False
    equipment: Equipment | None = None
    """What the master adds to a task beside its user's files."""

    @property
    def argv(self) -> tuple[str, ...]:
        """What to run; one word alone is a line for the shell."""
        if self.equipment is not None:
            return tuple(self.equipment.argv)
        words = tuple(self.config.entrypoint)
        return ("/bin/sh", "-c", words[0]) if len(words) == 1 else words

    @property
    def work_dir(self) -> str:
        """The folder to start in."""
        return (
            (self.config.work_dir or DEFAULT_WORK_DIR)
            .replace("$AGENT_USER", self.agent_user.user)
            .replace("$DET_USER", self.owner)
        )


def render_base_variables(launch: Launch) -> dict[str, str]:
    """The variables that every task gets, on agents and in Slurm jobs alike."""
    metadata = {"allocation_id": launch.allocation_id, "task_id": launch.task_id}
    variables = {
        "PYTHONUSERBASE": f"{RUN_DIR}/pythonuserbase",
        "DET_TASK_ID": launch.task_id,
        "DET_ALLOCATION_ID": launch.allocation_id,
        "DET_SESSION_TOKEN": launch.token,
        # The command line and the SDK inside the task act as its owner, for as long as it runs.
        "DET_USER_TOKEN": launch.token,
        "DET_USER": launch.owner,
        "DET_WORKDIR": launch.work_dir,
        "DET_RUN_DIR": RUN_DIR,
        "DET_USE_TLS": "true" if launch.uses_tls else "false",
        "DET_SEGMENT_ENABLED": "false",
        "DET_TASK_LOGGING_METADATA": json.dumps(metadata, separators=(",", ":")),
        "DET_TASK_TYPE": launch.task_type,
    }
    if launch.equipment is not None:
        variables |= launch.equipment.variables
    if launch.task_type in ("GENERIC", "TRIAL"):
        # Slurm's notice goes to the master; the work goes on until it hears of it from there.
        variables["SHIPWAY_ON_TERM"] = "report"
    optional = {
        "GLOO_PORT_RANGE": launch.tcd.gloo_port_range,
        "NCCL_PORT_RANGE": launch.tcd.nccl_port_range,
        "DET_INTER_NODE_NETWORK_INTERFACE": launch.tcd.dtrain_network_interface,
    }
    return variables | {name: value for name, value in optional.items() if value is not None}


def split_variable(text: str) -> tuple[str, str]:
    """Cut `NAME=value` at its first `=`; a name alone has an empty value."""
    name, _, value = text.partition("=")
    return name, value


def get_user_variables(launch: Launch, device_type: str) -> Mapping[str, str]:
    """The user's own variables for a device type; the last of one name wins."""
    texts = launch.config.environment.environment_variables.get(device_type)
    return dict(split_variable(text) for text in texts)


def get_image(launch: Launch, device_type: str) -> str:
    """The image for a device type; empty when nobody chose one."""
    image: str = getattr(launch.config.environment.image, device_type, "")
    return image


def list_run_folders(launch: Launch) -> list[TaskFile]:
    """The folders that every container has, owned by the task's user."""
    folders = [(RUN_DIR, 0o700), (f"{RUN_DIR}/info", 0o755), (f"{RUN_DIR}/pythonuserbase", 0o700)]
    if launch.work_dir == DEFAULT_WORK_DIR:
        folders.append((DEFAULT_WORK_DIR, 0o700))
    user = launch.agent_user
    return [
        TaskFile(path=path, type=DIRECTORY_TYPE, mode=mode, uid=user.uid, gid=user.gid)
        for path, mode in folders
    ]


def list_work_files(launch: Launch) -> list[TaskFile]:
    """The user's files, each under its full path; folders that they lie in come first."""
    made: dict[str, TaskFile] = {}
    user = launch.agent_user
    for file in launch.files:
        parts = file.path.strip("/").split("/")
        for depth in range(1, len(parts)):
            parent = f"{DEFAULT_WORK_DIR}/{'/'.join(parts[:depth])}"
            made.setdefault(
                parent,
                TaskFile(path=parent, type=DIRECTORY_TYPE, mode=0o700, uid=user.uid, gid=user.gid),
            )
        path = f"{DEFAULT_WORK_DIR}/{'/'.join(parts)}"
        made[path] = TaskFile(
            path=path,
            type=file.type,
            content=file.content,
            mode=file.mode & 0o7777,
            mtime=file.mtime,
            uid=user.uid,
            gid=user.gid,
        )
    return list(made.values())


def list_service_files(launch: Launch) -> list[TaskFile]:
    """What the master adds so that the task serves, with full paths.

    Without what a bind mount covers: it would be written to the node's own files.
    """
    if launch.equipment is None:
        return []
    covered = tuple(
        posixpath.normpath(posixpath.join(launch.work_dir, mount.container_path))
        for mount in launch.config.bind_mounts
    )
    return [
        file
        for file in launch.equipment.files
        if file.path.startswith(f"{RUN_DIR}/")
        or not any(_is_within(file.path, path) for path in covered)
    ]


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def list_account_files(launch: Launch) -> list[TaskFile]:
    """The task's user, for the name service library that Determined's images have."""
    user = launch.agent_user
    passwd = f"{user.user}:x:{user.uid}:{user.gid}::{launch.work_dir}:/bin/bash\n"
    texts = [
        ("passwd", passwd, 0o644),
        ("shadow", f"{user.user}:*:::::::\n", 0o600),
        ("group", f"{user.group}:x:{user.gid}:\n", 0o644),
    ]
    return [
        TaskFile(path=f"{RUN_DIR}/etc", type=DIRECTORY_TYPE, mode=0o755),
        *(
            TaskFile(path=f"{RUN_DIR}/etc/{name}", type=FILE_TYPE, content=text.encode(), mode=mode)
            for name, text, mode in texts
        ),
    ]
