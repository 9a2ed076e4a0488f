"""A container's spec as arguments of bwrap."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.archives import plan_bindings
from shipway_agent.runtimes.capabilities import chosen_capabilities
from shipway_agent.runtimes.devices import gpu_nodes, gpu_variables
from shipway_agent.runtimes.environment import DEFAULT_PATH
from shipway_agent.runtimes.hostview import HostView, sort_by_depth
from shipway_agent.runtimes.localtmp import replaces_tmp
from shipway_agent.runtimes.shimfiles import Launch, PayloadKind
from shipway_agent.runtimes.spec import ContainerSpec
from shipway_agent.runtimes.users import numeric_user

NAMESPACES = ("--unshare-pid", "--unshare-ipc", "--die-with-parent", "--new-session")

TEMPORARY, SCRATCH, VAR_TEMPORARY = "tmp", "work", "var-tmp"
"""Folders of the container's own, below its folder on the host."""

TRIES = 5
"""How often bwrap is run before a mount of the host that went meanwhile counts as its last word."""

_default_work_dir = "/tmp"  # noqa: S108 (the container's own)
_MOUNT_WENT = re.compile(
    r"^(?:bwrap: )?Can't bind mount /oldroot/ on /newroot/: .*"
    r"(?:No such file or directory|Invalid argument)$",
    re.MULTILINE,
)


def is_passing(message: str) -> bool:
    """Say whether bwrap failed for a moment only, from its words.

    It lists the host's mounts and then changes each: one that is unmounted in between, as those of
    other runtimes' containers are all the time, ends it.
    """
    return _MOUNT_WENT.search(message) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubblewrap:
    """How this host runs bwrap."""

    program: str
    setpriv: str | None
    """Program that changes the user inside; needed when root runs tasks of others."""
    view: HostView

    def plan(
        self, spec: ContainerSpec, folder: Path, tree: Path, warn: Callable[[str], None]
    ) -> Launch:
        """Return how to start *spec*, whose own files are below *folder* and *tree*; blocking.

        Raises:
            SpecUnsupported: Something cannot be had; the text names it.
        """
        for name in (TEMPORARY, SCRATCH, VAR_TEMPORARY):
            (folder / name).mkdir(exist_ok=True)
            (folder / name).chmod(0o1777)
        user = numeric_user(spec)
        mounts = self._mounts(spec, folder, tree)
        arguments = [
            *NAMESPACES,
            *(["--unshare-net"] if spec.network_mode == "none" else []),
            *_rights(spec, user, warn),
            *self.view.base_arguments(),
            *self.view.room_arguments(mounts),
            *_temporary_folder(spec, folder),
            *["--bind-try", str(folder / VAR_TEMPORARY), "/var/tmp"],  # noqa: S108
            *self.view.late_arguments(),
            *sort_by_depth(mounts),
            *["--chdir", spec.work_dir or _default_work_dir],
        ]
        for name, value in self._environment(spec).items():
            arguments += ["--setenv", name, value]
        return Launch(
            kind=PayloadKind.BUBBLEWRAP,
            argv=(self.program, "--", *self._become(user), *(spec.entrypoint or ()), *spec.argv),
            hidden_arguments=tuple(arguments),
            environment={},
            folder="/",
            output_user=user if os.geteuid() == 0 else None,
        )

    def _mounts(self, spec: ContainerSpec, folder: Path, tree: Path) -> dict[str, list[str]]:
        mounts: dict[str, list[str]] = {}
        for binding in plan_bindings(tree, self.view.exists):
            source = str(binding.source)
            target = self.view.resolve(binding.target)
            if binding.is_link:
                mounts[target] = ["--symlink", os.readlink(source), target]
            else:
                mounts[target] = ["--bind", source, target]
        for mount in spec.mounts:
            if not os.path.exists(mount.source):
                raise SpecUnsupported(
                    f"bind mount {mount.source}: there is no such path on this host"
                )
            target = self.view.resolve(mount.target)
            mounts[target] = ["--ro-bind" if mount.read_only else "--bind", mount.source, target]
        for tmpfs in spec.tmpfs:
            size = ["--size", str(tmpfs.size_bytes)] if tmpfs.size_bytes else []
            target = self.view.resolve(tmpfs.target)
            mounts[target] = ["--perms", f"{tmpfs.mode:o}", *size, "--tmpfs", target]
        if spec.shm_size_bytes is not None:
            shm = "/dev/shm"  # noqa: S108 (the container's own)
            mounts[shm] = ["--perms", "1777", "--size", str(spec.shm_size_bytes), "--tmpfs", shm]
        for node in gpu_nodes(spec):
            mounts[node] = ["--dev-bind", node, node]
        for device in spec.devices:
            mounts[device.container] = ["--dev-bind", device.host, device.container]
        work_dir = self.view.resolve(spec.work_dir or _default_work_dir)
        if not self._has_folder(work_dir, tree, spec):
            mounts[work_dir] = ["--bind", str(folder / SCRATCH), work_dir]
        return mounts

    def _has_folder(self, path: str, tree: Path, spec: ContainerSpec) -> bool:
        return (
            path == _default_work_dir
            or self.view.exists(path)
            or (tree / path.lstrip("/")).is_dir()
            or any(Path(path).is_relative_to(mount.target) for mount in spec.mounts)
        )

    def _environment(self, spec: ContainerSpec) -> dict[str, str]:
        gpus = gpu_variables(spec.gpus) if spec.gpus else {}
        home = spec.work_dir or _default_work_dir
        return {"PATH": DEFAULT_PATH, "HOME": home, **gpus, **spec.environment}

    def _become(self, user: tuple[int, int] | None) -> Sequence[str]:
        """Return the words before the program that make root somebody else."""
        if user is None or os.geteuid() != 0 or user == (0, 0):
            return ()
        if self.setpriv is None:
            raise SpecUnsupported(
                f"user {user[0]}:{user[1]}: running as another user needs the program setpriv"
                " (package util-linux)"
            )
        uid, gid = (str(number) for number in user)
        become = (self.setpriv, "--reuid", uid, "--regid", gid, "--clear-groups", "--inh-caps=-all")
        return (*become, "--")


def _rights(
    spec: ContainerSpec, user: tuple[int, int] | None, warn: Callable[[str], None]
) -> list[str]:
    if os.geteuid() != 0:
        if spec.add_capabilities:
            warn("added capabilities have no effect: the agent does not run as root")
        if user is None:
            return []
        return ["--unshare-user", "--uid", str(user[0]), "--gid", str(user[1])]
    arguments = ["--cap-drop", "ALL"]
    for name in chosen_capabilities(spec.add_capabilities, spec.drop_capabilities):
        arguments += ["--cap-add", name]
    return arguments


def _temporary_folder(spec: ContainerSpec, folder: Path) -> list[str]:
    if replaces_tmp(spec):
        return ["--perms", "1777", "--dir", "/tmp"]  # noqa: S108
    return ["--bind", str(folder / TEMPORARY), "/tmp"]  # noqa: S108
