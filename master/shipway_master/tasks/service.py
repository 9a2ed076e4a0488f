"""What a task that serves people has beside its configuration: a port and the keys to it."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from shipway_master.tasks.files import TaskFile
from shipway_master.tasks.ssh import make_key_pair
from shipway_master.tasks.states import TaskType

_PORTS: Mapping[TaskType, range] = {
    TaskType.TENSORBOARD: range(2600, 2899),
    TaskType.NOTEBOOK: range(2900, 3199),
    TaskType.SHELL: range(3200, 3499),
}
"""From where the ports come: different for each kind, as tasks may share their host's network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where a task serves in its container, and with which key it is entered."""

    port: int
    secret: str = field(repr=False)
    """The private key of a shell, in OpenSSH's form; the token of a notebook; else empty."""
    public_key: str = ""
    """Of a shell. The pair is both the user's and the host's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """What the master adds to a task beside its user's files."""

    argv: Sequence[str]
    files: Sequence[TaskFile] = field(repr=False)
    """With absolute paths, folders before what is in them."""
    port: int | None = None
    """Where it serves, if it does."""
    label: str = ""
    """What containers and jobs are called, if not as the task is."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


def make_service(task_type: TaskType, *, ports_in_use: Collection[int]) -> Service | None:
    """Choose a port and make keys; None for tasks that serve nothing.

    Args:
        ports_in_use: Those of the tasks that live, avoided as far as there are others.
    """
    ports = _PORTS.get(task_type)
    if ports is None:
        return None
    free = [port for port in ports if port not in ports_in_use]
    port = secrets.choice(free or ports)
    if task_type is TaskType.TENSORBOARD:
        return Service(port=port, secret="")
    if task_type is not TaskType.SHELL:
        return Service(port=port, secret=secrets.token_urlsafe(32))
    keys = make_key_pair()
    return Service(port=port, secret=keys.private, public_key=keys.public)
