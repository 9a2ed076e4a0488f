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
from shipway_agent.runtimes.devices import limiting_variables
from shipway_agent.runtimes.environment import DEFAULT_PATH
from shipway_agent.runtimes.hostview import warn_of_little_shared_memory
from shipway_agent.runtimes.shimfiles import Launch, PayloadKind
from shipway_agent.runtimes.spec import ContainerSpec
from shipway_agent.runtimes.users import open_way, user_to_become

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
    warn_of_little_shared_memory(spec, warn)

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
    user = user_to_become(spec)
    if user is not None:
        open_way(folder, user[0])
    return Launch(
        kind=PayloadKind.PROCESS,
        argv=tuple(rewrite(word) for word in [*(spec.entrypoint or ()), *spec.argv]),
        environment={
            "PATH": DEFAULT_PATH,
            "HOME": work_dir,
            "TMPDIR": str(temporary),
            **limiting_variables(spec),
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
    for tmpfs in spec.tmpfs:
        raise SpecUnsupported(
            f"tmpfs at {tmpfs.target}: a plain process has the host's files; install bubblewrap"
        )


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
