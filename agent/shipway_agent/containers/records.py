"""What must be known of a container when the agent that started it is gone.

One file per container, replaced whole. The runtime knows whether the container runs and how it
ended; the file holds what only the agent knew: how much of the output the master has read, and an
end that no runtime can tell, such as that of an image pull.

A reader ignores members that it does not know and does without ones that came later, so agents of
different ages read each other's files; `_VERSION` changes when that would mislead them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from shipway_agent.containers.state import State
from shipway_agent.logs.journal import Journal
from shipway_agent.master.messages import Container, Device, Failure, FailureType
from shipway_agent.runtimes.spec import ContainerId, Stream
from shipway_common.files import remove_leftovers, write_atomic

log = logging.getLogger(__name__)

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One container, as the agent knew it."""

    agent_id: str
    cluster_id: str
    runtime: str
    """Name of the runtime that has the container."""
    container: Container
    failure: Failure | None = None
    """With the state TERMINATED."""
    allocation_id: str = ""
    task_id: str = ""
    task_type: str = ""
    image: str = ""
    trial_id: str | None = None
    """The trial that its metrics belong to."""
    session_token: str | None = field(default=None, repr=False)
    """The allocation's, for posting in the task's name."""
    profiles: bool = False
    """Whether the task asked to be profiled."""
    ended_by_agent: bool = False
    """Whether the agent ended it when it was stopped, and not the master."""
    ships_output: bool = True
    """Whether the agent brings the container's output to the master."""
    network_mode: str = "bridge"
    ports: tuple[int, ...] = ()
    delivered: Mapping[Stream, int]
    """Offsets up to which the master has read the output."""


class RecordStore:
    """The folder of the records. All methods block: call them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the folder, and remove what a killed agent left half-written.

        Raises:
            OSError: It cannot be made or written to.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = self._folder / ".probe"
        write_atomic(probe, b"")
        probe.unlink()
        remove_leftovers(self._folder)

    def save(self, record: Record) -> None:
        """Write one record.

        Raises:
            OSError: It could not be written; the former one, if any, is still there.
        """
        document = {"version": _VERSION, **asdict(record)}
        text = json.dumps(document, indent=1)
        write_atomic(self.path_of(record.container.id), text.encode("ascii"))

    def delete(self, container_id: ContainerId) -> None:
        """Forget a container; one that is not known is no error."""
        self.journal_of(container_id).delete()
        self.path_of(container_id).unlink(missing_ok=True)

    def load_all(self, agent_id: str) -> dict[ContainerId, Record]:
        """Read the records of one agent; a file that cannot be read is logged and left alone."""
        records: dict[ContainerId, Record] = {}
        for file in sorted(self._folder.glob("*.json")):
            try:
                record = _parse(json.loads(file.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("record of a container cannot be read: %s: %r", file, error)
                continue
            if record.agent_id == agent_id:
                records[record.container.id] = record
        return records

    def journal_of(self, container_id: ContainerId) -> Journal:
        """Return the file with what is on its way of the container's output."""
        return Journal(self._folder / f"{container_id}.sent")

    def path_of(self, container_id: ContainerId) -> Path:
        """Return the file of a container's record."""
        return self._folder / f"{container_id}.json"


def _parse(document: Any) -> Record:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']} is not {_VERSION}")
    container = document["container"]
    failure = document["failure"]
    return Record(
        agent_id=document["agent_id"],
        cluster_id=document["cluster_id"],
        runtime=document["runtime"],
        container=Container(
            id=container["id"],
            state=State(container["state"]),
            devices=_parse_devices(container["devices"]),
            description=container["description"],
        ),
        failure=failure
        and Failure(
            type=FailureType(failure["type"]),
            message=failure["message"],
            exit_code=failure["exit_code"],
        ),
        allocation_id=document["allocation_id"],
        task_id=document.get("task_id", ""),
        task_type=document["task_type"],
        image=document.get("image", ""),
        trial_id=document.get("trial_id"),
        session_token=document.get("session_token"),
        profiles=document.get("profiles", False),
        ended_by_agent=document.get("ended_by_agent", False),
        ships_output=document["ships_output"],
        network_mode=document["network_mode"],
        ports=tuple(document["ports"]),
        delivered=cast("Mapping[Stream, int]", document["delivered"]),
    )


def _parse_devices(devices: Any) -> tuple[Device, ...] | None:
    return None if devices is None else tuple(Device(**device) for device in devices)
