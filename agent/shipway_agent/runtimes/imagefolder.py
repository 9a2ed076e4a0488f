"""A folder of ours with images that were fetched, each a file; those not used for long make room."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.runtimes.folderwork import alone_in, work_in

log = logging.getLogger(__name__)

_WORK_PREFIX = ".fetch-"
_LONGEST_NAME_BYTES = 200
_GRACE_S = 600.0
"""How long after its use no image goes: a container may be about to be made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A file and what is known of it."""

    path: Path
    size_bytes: int
    used_at: float


class ImageFolder:
    """Images by name; the time of a file's change is that of its last use."""

    def __init__(
        self,
        folder: Path,
        suffix: str,
        *,
        limit_bytes: int | None,
        find_used: Callable[[], Awaitable[Collection[Path]]],
        layers: Path | None = None,
    ) -> None:
        """Use *folder*; `open` makes it.

        Args:
            folder: Where the images are.
            suffix: What their names end with.
            limit_bytes: How much they may take; None: half of their disk.
            find_used: Finds the images that containers still need, however long ago they began.
            layers: A folder of parts of images, which may go as well.
        """
        self._folder, self._suffix, self._layers = folder, suffix, layers
        self._limit_bytes = limit_bytes
        self._find_used = find_used
        self._locks: dict[str, asyncio.Lock] = {}

    def open(self) -> None:
        """Make the folder, and remove what a killed process was fetching; blocking."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with alone_in(self._folder) as is_alone:
            for work in self._folder.glob(f"{_WORK_PREFIX}*") if is_alone else ():
                shutil.rmtree(work, ignore_errors=True)

    def find(self, name: str) -> Path | None:
        """Return the file of an image, which counts as used by that; None if it is not here.

        Blocking.
        """
        place = self._place(name)
        try:
            os.utime(place)
        except FileNotFoundError:
            return None
        return place

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncGenerator[None]:
        """Keep all images as they are meanwhile."""
        async with work_in(self._folder):
            yield

    @contextlib.asynccontextmanager
    async def fetching(self, name: str) -> AsyncGenerator[Path]:
        """Give a path for the image, in an empty folder, and keep what is there at the end.

        One image is fetched once at a time. Afterwards there is room again for others.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            async with work_in(self._folder):
                work = self._folder / f"{_WORK_PREFIX}{uuid.uuid4().hex}"
                await asyncio.to_thread(work.mkdir, mode=0o700)
                try:
                    image = work / f"image{self._suffix}"
                    yield image
                    await asyncio.to_thread(image.replace, self._place(name))
                finally:
                    await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)
        await self._make_room()

    async def _make_room(self) -> None:
        used = await self._find_used()
        try:
            await asyncio.to_thread(self._remove_oldest, used)
        except OSError as error:
            log.warning("cannot remove old images: %s", error)

    def _remove_oldest(self, used: Collection[Path]) -> None:
        limit_bytes = self._limit_bytes
        if limit_bytes is None:
            limit_bytes = shutil.disk_usage(self._folder).total // 2
        with alone_in(self._folder) as is_alone:
            if not is_alone:
                return  # whoever is at work here comes by later
            kept = self._list_kept()
            total_bytes = sum(one.size_bytes for one in kept)
            now = time.time()
            for one in sorted(kept, key=lambda one: one.used_at):
                if total_bytes <= limit_bytes:
                    break
                # A clock that was set back leaves times that are yet to come.
                if one.path in used or abs(now - one.used_at) < _GRACE_S:
                    continue
                one.path.unlink(missing_ok=True)
                total_bytes -= one.size_bytes
                log.info("an image that was not used for long is removed: %s", one.path)

    def _list_kept(self) -> list[_Kept]:
        paths = list(self._folder.glob(f"*{self._suffix}"))
        if self._layers is not None and self._layers.is_dir():
            paths += self._layers.iterdir()
        found: list[_Kept] = []
        for path in paths:
            status = path.lstat()
            if not path.is_dir():
                size_bytes = status.st_blocks * 512
                found.append(_Kept(path=path, size_bytes=size_bytes, used_at=status.st_mtime))
        return found

    def _place(self, name: str) -> Path:
        text = re.sub("[/:]", "+", name)
        if len(os.fsencode(text)) > _LONGEST_NAME_BYTES:
            text = hashlib.sha256(os.fsencode(name)).hexdigest()
        return self._folder / f"{text}{self._suffix}"
