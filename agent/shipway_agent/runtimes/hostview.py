"""The host's files as a sandbox shows them: which mounts give that picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.runtimes.spec import ContainerSpec

_private = ("/dev", "/proc", "/run", "/tmp", "/var/tmp")  # noqa: S108
"""Never the host's own in a sandbox."""

_shared_memory = Path("/dev/shm")  # noqa: S108 (the host's own)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """What of the host is there for all sandboxes of an agent."""

    expose: tuple[Path, ...] = ()
    """Shown read-only even below what is hidden."""
    hide: tuple[Path, ...] = ()
    """Folders that are shown empty."""
    home: Path | None = None
    """A folder that can be written as on the host."""

    def base_arguments(self) -> list[str]:
        """Return bwrap's arguments for the host's files, read-only, with what is private empty."""
        arguments: list[str] = []
        for entry in sorted(os.scandir("/"), key=lambda entry: entry.name):
            path = f"/{entry.name}"
            if path in _private:
                continue
            arguments += _show(entry, path)
        arguments += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"]
        return arguments

    def late_arguments(self) -> list[str]:
        """Return the arguments that hide and expose; right after all private folders are there."""
        arguments: list[str] = []
        shown: list[str] = []
        if self.home is not None and self.home.is_dir():
            shown.append(os.path.realpath(self.home))
            arguments += ["--bind", shown[0], shown[0]]
        for path in [os.path.realpath(path) for path in self.hide if path.is_dir()]:
            if not self.is_private(path) or any(_is_within(path, home) for home in shown):
                arguments += ["--tmpfs", path]
        exposed = [*self.expose, *_resolver_folders()]
        for place in sorted({os.path.realpath(path) for path in exposed if path.exists()}):
            if self.is_private(place) or self._is_hidden(place):
                arguments += ["--ro-bind", place, place]
        return arguments

    def is_private(self, path: str) -> bool:
        """Say whether *path* lies where a sandbox has its own files."""
        return any(_is_within(path, folder) for folder in _private)

    def exists(self, path: str) -> bool:
        """Say whether *path* of the host is there in the sandbox."""
        return not self.is_private(path) and not self._is_hidden(path) and os.path.exists(path)

    def resolve(self, target: str) -> str:
        """Return *target* with the host's links on the way to it followed (/bin/x: /usr/bin/x)."""
        target = os.path.normpath("/" + target.lstrip("/"))
        if self.is_private(target) or self._is_hidden(target):
            return target
        return os.path.realpath(target)

    def room_arguments(self, targets: Iterable[str]) -> list[str]:
        """Return the arguments that make it possible to mount on *targets* that are not there.

        A folder of the host in which a target is missing becomes an empty one that shows, one by
        one, what the host's folder holds.
        """
        opened = {"/"}
        for target in targets:
            if self.is_private(target) or self._is_hidden(target) or os.path.lexists(target):
                continue
            folder = os.path.dirname(target)
            while not os.path.isdir(folder):
                folder = os.path.dirname(folder)
            # A folder that is opened needs its own place, which is there: its parents stay closed.
            opened.add(folder)
        arguments: list[str] = []
        for folder in sorted(opened - {"/"}):
            arguments += ["--tmpfs", folder]
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                arguments += _show(entry, f"{folder}/{entry.name}")
        return arguments

    def _is_hidden(self, path: str) -> bool:
        return any(_is_within(path, os.path.realpath(folder)) for folder in self.hide)


def sort_by_depth(mounts: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the arguments of all mounts, those nearer to the root first."""
    ordered = sorted(mounts, key=lambda target: (target.count("/"), target))
    return [argument for target in ordered for argument in mounts[target]]


def warn_of_little_shared_memory(
    spec: ContainerSpec, warn: Callable[[str], None], *, path: Path = _shared_memory
) -> None:
    """Tell a task that shares the host's /dev/shm if that is less than it asked for; blocking."""
    if spec.shm_size_bytes is None:
        return
    try:
        found = os.statvfs(path)
    except OSError:
        warn(f"shared memory: there is no {path} on this host")
        return
    size_bytes = found.f_blocks * found.f_frsize
    if size_bytes < spec.shm_size_bytes:
        warn(
            f"shared memory: {path} of this host has {size_bytes} bytes, less than the"
            f" {spec.shm_size_bytes} of shm_size"
        )


def _show(entry: os.DirEntry[str], path: str) -> list[str]:
    if entry.is_symlink():
        return ["--symlink", os.readlink(entry.path), path]
    return ["--ro-bind-try", path, path]


def _resolver_folders() -> list[Path]:
    """Return where resolv.conf really is: often a file below /run."""
    resolver = Path("/etc/resolv.conf")
    return [Path(os.path.realpath(resolver)).parent] if resolver.is_symlink() else []


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
