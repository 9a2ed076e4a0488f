"""What a stream's folder says of it besides its messages: whose it is, and whether it sleeps.

All blocking.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from shipway_common.files import fsync_folder, write_atomic
from shipway_launcher.relay.master import Metadata

_FILE = "stream.json"
_ASLEEP = "asleep"
_VERSION = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose messages a stream holds: an allocation, and the token it speaks with."""

    allocation_id: str
    metadata: Metadata
    task_id: str = ""
    """Empty where only the allocation is known, whose id begins with it."""

    @property
    def task(self) -> str:
        """The task that the allocation is one of."""
        return self.task_id or self.allocation_id.rpartition(".")[0]


def save_owner(folder: Path, owner: Owner, refused: str | None) -> None:
    """Write down whose a stream is, and why its token was refused, if it was.

    Raises:
        OSError: It is not written.
    """
    state = {
        "version": _VERSION,
        "allocation_id": owner.allocation_id,
        "task_id": owner.task_id,
        "metadata": owner.metadata,
        "refused": refused,
    }
    write_atomic(folder / _FILE, json.dumps(state).encode())


def load_owner(folder: Path) -> tuple[Owner, str | None]:
    """Return what `save_owner` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged, or of a newer version.
    """
    try:
        state = json.loads((folder / _FILE).read_bytes())
        if state["version"] not in {1, _VERSION}:
            raise ValueError(f"{folder} is of version {state['version']}, not {_VERSION}")
        owner = Owner(
            allocation_id=state["allocation_id"],
            metadata=tuple((name, value) for name, value in state["metadata"]),
            task_id=state.get("task_id", ""),
        )
        return owner, state["refused"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / _FILE} is damaged: {error!r}") from error


def note_asleep(folder: Path) -> None:
    """Note that all of a stream is delivered, so that it need not be loaded before its next call.

    Raises:
        OSError: It is not noted.
    """
    (folder / _ASLEEP).touch(mode=0o600)


def wake(folder: Path) -> None:
    """Take back what `note_asleep` noted.

    Raises:
        OSError: It cannot be taken back, so nothing must be added to the stream.
    """
    (folder / _ASLEEP).unlink(missing_ok=True)
    fsync_folder(folder)  # or a power loss would hide what is added from now on


def is_asleep(folder: Path) -> bool:
    """Tell what `note_asleep` noted."""
    return (folder / _ASLEEP).exists()


def last_use_s(folder: Path) -> float:
    """Return when a stream's folder was last written to.

    Raises:
        OSError: It cannot be read.
    """
    return max(path.stat().st_mtime for path in folder.iterdir())
