"""The folders of containers that shims hold: made, listed and removed."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipway_agent.errors import ContainerNotFound, RuntimeRefused, SpecUnsupported
from shipway_agent.runtimes.archives import unpack
from shipway_agent.runtimes.folderwork import alone_in, work_in
from shipway_agent.runtimes.shimfiles import (
    CLAIM,
    EXIT,
    LAUNCH,
    STARTED,
    ExitRecord,
    Launch,
    StartedRecord,
    find_exit,
    find_started,
    list_segments,
    load_launch,
    save_record,
)
from shipway_agent.runtimes.spec import ID_LABEL, ContainerId, ContainerSpec, ContainerState
from shipway_agent.tasks import uncut
from shipway_common.files import write_atomic

TREE = "root"
"""Below a container's folder: its archives, as they would lie below /."""

_CONTAINER = "container.json"
_REMOVED_PREFIX = ".removed-"
_VERSION = 1
_safe_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldContainer:
    """What is remembered of a container besides what its shim writes; no secrets."""

    id: ContainerId
    labels: Mapping[str, str]
    ports: tuple[int, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict[str, str])
    """What else a runtime wants to know later."""


class _Exists(RuntimeRefused):
    """There is such a container, which is to be left alone."""


class ShimStore:
    """All containers of one runtime, each in its folder below one root of ours."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def open(self) -> None:
        """Make the root, and finish removals that a crash has cut short."""
        await asyncio.to_thread(self._open)

    def folder(self, container_id: str) -> Path:
        """Return where a container's files are or would be."""
        if not _safe_id.fullmatch(container_id):
            raise SpecUnsupported(f"container id {container_id!r} cannot name a folder")
        return self._root / container_id

    @asynccontextmanager
    async def making(self, spec: ContainerSpec) -> AsyncGenerator[Path]:
        """Make the container's folder with its archives in it; remove it if the body fails.

        The container exists for others when the body has called `save`.
        """
        folder = self.folder(spec.id)
        await asyncio.to_thread(self._make_root)
        async with work_in(self._root):
            try:
                await uncut(asyncio.to_thread(self._make_folder, folder, spec))
                yield folder
            except _Exists:
                raise
            except BaseException:
                await asyncio.to_thread(_remove_tree, folder)
                raise

    async def save(self, container: HeldContainer, launch: Launch) -> None:
        """Write down how to start the container, and that it exists."""

        def write() -> None:
            folder = self.folder(container.id)
            save_record(folder / LAUNCH, launch)
            data = {
                "version": _VERSION,
                "id": container.id,
                "labels": {**container.labels, ID_LABEL: container.id},
                "ports": container.ports,
                "details": dict(container.details),
            }
            write_atomic(folder / _CONTAINER, json.dumps(data).encode("ascii"))

        await asyncio.to_thread(write)

    async def load_launch(self, container_id: str) -> Launch | None:
        """Read how to start a container; None if that was done before."""

        def load() -> Launch | None:
            try:
                return load_launch(self.folder(container_id) / LAUNCH)
            except FileNotFoundError:
                return None

        return await asyncio.to_thread(load)

    async def renew(self, container_id: str, launch: Launch) -> None:
        """Make a container startable again whose program never ran, and whose shim has ended."""

        def renew() -> None:
            folder = self.folder(container_id)
            save_record(folder / LAUNCH, launch)
            output = [segment.path for segment in list_segments(folder)]
            for path in (*output, folder / STARTED, folder / EXIT, folder / CLAIM):
                path.unlink(missing_ok=True)

        await asyncio.to_thread(renew)

    async def get(self, container_id: str) -> HeldContainer:
        """Read what is remembered of a container.

        Raises:
            ContainerNotFound: There is none.
        """
        found = await asyncio.to_thread(_find_container, self.folder(container_id))
        if found is None:
            raise ContainerNotFound(f"there is no container {container_id} in {self._root}")
        return found

    async def list(self, labels: Mapping[str, str]) -> list[HeldContainer]:
        """Find the containers that have all of *labels*."""

        def read_all() -> list[HeldContainer]:
            if not self._root.is_dir():  # somebody removed it; `making` makes it again
                return []
            entries = [path for path in self._root.iterdir() if _safe_id.fullmatch(path.name)]
            found = [_find_container(path) for path in sorted(entries)]
            return [one for one in found if one and labels.items() <= one.labels.items()]

        return await asyncio.to_thread(read_all)

    async def remove(
        self, container_id: str, remove_foreign: Callable[[Path], Awaitable[None]] | None = None
    ) -> None:
        """Remove a container's folder; one that is gone is no error.

        Args:
            container_id: Whose.
            remove_foreign: Removes a folder with files in it that are not ours.

        Raises:
            OSError: Something in it cannot be removed; a later `open` tries again.
        """
        folder = self.folder(container_id)
        aside = self._root / f"{_REMOVED_PREFIX}{container_id}-{uuid.uuid4().hex[:8]}"

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                folder.rename(aside)  # at once and whole, so that no half of it is ever listed
                _remove_tree(aside)

        try:
            await asyncio.to_thread(remove)
        except PermissionError:
            if remove_foreign is None:
                raise
            await remove_foreign(aside)

    def _open(self) -> None:
        self._make_root()
        for leftover in self._root.glob(f"{_REMOVED_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with alone_in(self._root) as is_alone:
            for folder in self._root.iterdir() if is_alone else ():
                if _is_half_made(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def _make_root(self) -> None:
        # Open to pass through: a container's own user must reach its files in its folder.
        self._root.mkdir(parents=True, exist_ok=True, mode=0o711)

    def _make_folder(self, folder: Path, spec: ContainerSpec) -> None:
        if _is_half_made(folder):
            _remove_tree(folder)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as error:
            raise _Exists(f"container {spec.id} exists already in {folder}") from error
        (folder / TREE).mkdir(mode=0o755)
        unpack(spec.archives, folder / TREE)


def state_of(folder: Path) -> tuple[ContainerState, StartedRecord | None, ExitRecord | None]:
    """Say how far a container is; blocking.

    A shim that is gone without an exit record was killed from outside: exited, with no record.
    """
    started = find_started(folder / STARTED)
    shim_lives = started is not None and started.shim.is_alive
    # Read after the look at the shim, which writes it before it ends.
    ended = find_exit(folder / EXIT)
    if ended is not None:
        return ContainerState.EXITED, started, ended
    if started is not None:
        state = ContainerState.RUNNING if shim_lives else ContainerState.EXITED
        return state, started, None
    return ContainerState.CREATED, None, None


def is_being_started(folder: Path) -> bool:
    """Say whether a shim has begun with a container and not yet said what came of it; blocking."""
    try:
        with (folder / CLAIM).open("rb") as claim:
            fcntl.flock(claim, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # it lives
        return state_of(folder)[0] is ContainerState.CREATED
    except FileNotFoundError:
        return False
    return False


def _is_half_made(folder: Path) -> bool:
    """Say whether the making of a container was cut short, unless it is under way."""
    is_one = _safe_id.fullmatch(folder.name) is not None and folder.is_dir()
    return is_one and not (folder / _CONTAINER).exists()


def _remove_tree(folder: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder, onerror=_make_removable)


def _find_container(folder: Path) -> HeldContainer | None:
    try:
        data: dict[str, Any] = json.loads((folder / _CONTAINER).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    if data["version"] != _VERSION:
        raise RuntimeRefused(
            f"{folder / _CONTAINER} has version {data['version']}; this agent reads {_VERSION}"
        )
    return HeldContainer(
        id=ContainerId(data["id"]),
        labels=data["labels"],
        ports=tuple(data["ports"]),
        details=data["details"],
    )


def _make_removable(function: Callable[..., Any], path: str, error: object) -> None:
    """Give ourselves the right to a folder of the task's that we may not change, and try again."""
    parent = os.path.dirname(path)
    for folder in (parent, path):
        if os.path.isdir(folder) and not os.path.islink(folder):
            os.chmod(folder, 0o700)
    if function in {os.open, os.scandir, os.lstat}:
        shutil.rmtree(path)
    else:
        function(path)
