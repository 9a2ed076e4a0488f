"""What was being delivered when the agent died: the end of a container's delivered output.

Before a batch goes out, its place in the output and its time are written into a small file; after a
crash the master is asked whether it has lines of that time. The file is overwritten in place and
not synced: it is for the death of the agent. When the machine dies, the container does so, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from shipway_agent.runtimes.spec import Stream

_VERSION = 1
_SIZE_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A batch on its way."""

    begins: Mapping[Stream, int]
    """Offsets up to which the master had surely read each stream before it."""
    ends: Mapping[Stream, int]
    """And after it; the same if nothing is in doubt."""
    time_us: int
    """Of its last line, microseconds since 1970."""

    @property
    def is_in_doubt(self) -> bool:
        """Whether the master may or may not have it."""
        return self.begins != self.ends


class Journal:
    """The file of one container. All methods block: call them in a thread."""

    def __init__(self, path: Path) -> None:
        """Use *path*, which need not exist."""
        self.path = path

    def find(self) -> Sent | None:
        """Read what was written last; None if there is nothing that can be read.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            document: Any = json.loads(self.path.read_bytes())
            if document["version"] != _VERSION:
                return None
            return Sent(
                begins=cast("Mapping[Stream, int]", document["begins"]),
                ends=cast("Mapping[Stream, int]", document["ends"]),
                time_us=int(document["time_us"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return None  # of an agent of another age, or of a machine that lost its power

    def write(self, sent: Sent) -> None:
        """Replace what is there.

        Raises:
            OSError: It cannot be written.
        """
        data = json.dumps({"version": _VERSION, **asdict(sent)}).encode().ljust(_SIZE_BYTES)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, data, 0)  # one page at most: a reader sees it whole or not at all
        finally:
            os.close(descriptor)

    def delete(self) -> None:
        """Forget it all."""
        self.path.unlink(missing_ok=True)
