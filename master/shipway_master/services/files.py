"""Files in requests."""

from __future__ import annotations

from collections.abc import Iterable

from shipway_master.tasks.files import TaskFile
from shipway_proto.determined.util.v1.util_pb2 import File


def read_files(files: Iterable[File]) -> list[TaskFile]:
    """Take the files out of a request; whose they are on the user's machine does not matter."""
    return [
        TaskFile(
            path=file.path,
            type=file.type,
            content=file.content,
            mode=file.mode,
            mtime=file.mtime,
        )
        for file in files
    ]
