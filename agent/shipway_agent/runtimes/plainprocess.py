"""A container's spec as a plain process: no walls, on the host's own files.

The files that a task expects below /run/determined lie in its own folder instead; what names them
is rewritten: whole arguments, the working folder, and the variables that say where they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.bubblewrap import TEMPORARY
from shipway_agent.runtimes.devices import gpu_variables, has_gpus
from shipway_agent.runtimes.environment import DEFAULT_PATH, numeric_user
from shipway_agent.runtimes.shimfiles import Launch, PayloadKind
from shipway_agent.runtimes.spec import ContainerSpec

_run_dir = "/run/determined"
_path_variables = frozenset(
    {"DET_WORKDIR", "DET_RUN_DIR", "DET_MASTER_CERT_FILE", "PYTHONUSERBASE", "HOME"}
)


def plan_process(
    spec: ContainerSpec, folder: Path, tree: Path, warn: Callable[[str], None]
) -> Launch:
    """Return how to start *spec*, whose own files are below *folder* and *tree*; blocking.

    Raises:
        SpecUnsupported: Something cannot be had without walls; the text names it.
    """
    _check_mounts(spec, warn)
    _check_devices(spec, warn)

    def rewrite(text: str) -> str:
        is_below = text == _run_dir or text.startswith(_run_dir + "/")
        return f"{tree}{text}" if is_below else text

    temporary = folder / TEMPORARY
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o1777)
    work_dir = rewrite(spec.work_dir) or str(temporary)
    if work_dir.startswith(f"{tree}/"):
        os.makedirs(work_dir, exist_ok=True)
    elif not os.path.isdir(work_dir):
        raise SpecUnsupported(f"working folder {work_dir}: there is no such folder on this host")
    environment = {
        name: rewrite(value) if name in _path_variables else value
        for name, value in spec.environment.items()
    }
    user = _user(spec)
    if user is not None:
        _open_way(folder, user[0])
    return Launch(
        kind=PayloadKind.PROCESS,
        argv=tuple(rewrite(word) for word in [*(spec.entrypoint or ()), *spec.argv]),
        environment={
            "PATH": DEFAULT_PATH,
            "HOME": work_dir,
            "TMPDIR": str(temporary),
            **_gpu_variables(spec),
            **environment,
        },
        folder=work_dir,
        user=user,
    )


def _check_mounts(spec: ContainerSpec, warn: Callable[[str], None]) -> None:
    for mount in spec.mounts:
        if os.path.normpath(mount.source) != os.path.normpath(mount.target):
            raise SpecUnsupported(
                f"bind mount of {mount.source} at {mount.target}: a plain process can have a path"
                " only where it is on the host; install bubblewrap, or mount it at the same path"
            )
        if not os.path.exists(mount.source):
            raise SpecUnsupported(f"bind mount {mount.source}: there is no such path on this host")
        if mount.read_only:
            warn(f"bind mount {mount.source} is not read-only: the task is a plain process")


def _check_devices(spec: ContainerSpec, warn: Callable[[str], None]) -> None:
    for device in spec.devices:
        if device.host != device.container:
            raise SpecUnsupported(
                f"device {device.host} as {device.container}: a plain process can have a device"
                " only under its own name"
            )
    if spec.network_mode == "none":
        raise SpecUnsupported("network mode none: a plain process has the host's network")
    if spec.add_capabilities or spec.drop_capabilities:
        warn("capabilities are not changed: the task is a plain process")


def _user(spec: ContainerSpec) -> tuple[int, int] | None:
    """Return whom to become; None to stay who we are."""
    user = numeric_user(spec)
    if user is None or user == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() == 0:
        return user
    if user[0] in {0, os.geteuid()}:
        return None  # less right than was asked for
    raise SpecUnsupported(
        f"user {spec.user}: this agent is not root, so its tasks run as user {os.geteuid()}"
    )


def _open_way(folder: Path, uid: int) -> None:
    """Let a user through to its files in *folder*, whose own files stay closed.

    Raises:
        SpecUnsupported: A folder above is closed, and not ours to open.
    """
    folder.chmod(0o711)
    for parent in folder.parents:
        status = parent.stat()
        if not status.st_mode & 0o001 and status.st_uid != uid:
            raise SpecUnsupported(
                f"user {uid} cannot reach its files: {parent} is closed to others; chmod o+x it"
            )


def _gpu_variables(spec: ContainerSpec) -> dict[str, str]:
    """Return what keeps a task that sees all device files on its own GPUs."""
    if spec.all_gpus or not (spec.gpus or has_gpus()):
        return {}
    return gpu_variables(spec.gpus)
