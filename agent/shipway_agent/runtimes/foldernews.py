"""Hearing from the kernel that something happened in a folder, instead of looking again and again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE_SELF, _IN_MOVE_SELF = (
    0x2,
    0x80,
    0x100,
    0x400,
    0x800,
)
_MASK = _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_MOVE_SELF
_IN_NONBLOCK, _IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_EVENT = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class News(asyncio.Event):
    """Set when something has happened."""

    hears = True
    """False: the kernel has no watch to spare, and it is never set."""


class FolderNews:
    """Tells those who wait for news of a folder; belongs to one event loop."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._waiting: defaultdict[int, set[News]] = defaultdict(set)

    @contextlib.contextmanager
    def of(self, folder: Path) -> Generator[News]:
        """Give an event that is set when files in *folder* appear or grow, or it goes away."""
        event = News()
        watch = self._watch(folder)
        event.hears = watch >= 0
        self._waiting[watch].add(event)
        try:
            yield event
        finally:
            self._waiting[watch].discard(event)
            if not self._waiting[watch]:
                del self._waiting[watch]
                if watch >= 0:  # the kernel has dropped it by itself if the folder is gone
                    _libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        """Stop hearing."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _watch(self, folder: Path) -> int:
        if self._descriptor < 0:
            self._descriptor = int(_libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC))
            if self._descriptor < 0:
                return -1
            asyncio.get_running_loop().add_reader(self._descriptor, self._take)
        return int(_libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _MASK))

    def _take(self) -> None:
        data = os.read(self._descriptor, 65536)
        offset = 0
        watches: set[int] = set()
        while offset < len(data):
            watch, _, _, name_length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + name_length
            watches.add(watch)
        for watch in watches:
            # -1: events were dropped, and nobody knows of which folders.
            for told in list(self._waiting) if watch == -1 else [watch]:
                for event in self._waiting.get(told, ()):
                    event.set()
