"""Who a task runs as, where no engine decides that."""

from __future__ import annotations

import os
from pathlib import Path

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.spec import ContainerSpec


def numeric_user(spec: ContainerSpec) -> tuple[int, int] | None:
    """Return the uid and gid that *spec* asks for, or None.

    Raises:
        SpecUnsupported: It is not of the form uid:gid; without an image no names are known.
    """
    if not spec.user:
        return None
    uid, _, gid = spec.user.partition(":")
    if not (uid.isdecimal() and (gid or uid).isdecimal()):
        raise SpecUnsupported(f"user {spec.user!r}: give uid:gid in numbers")
    return int(uid), int(gid or uid)


def user_to_become(spec: ContainerSpec) -> tuple[int, int] | None:
    """Return whom a process of ours must become to be the task's user; None to stay who we are.

    Raises:
        SpecUnsupported: We are not root, and it is somebody else.
    """
    user = numeric_user(spec)
    if user is None or user == (os.geteuid(), os.getegid()):
        return None
    if os.geteuid() == 0:
        return user
    if user[0] in {0, os.geteuid()}:
        return None  # less right than was asked for
    raise SpecUnsupported(
        f"user {spec.user}: this agent is not root, so its tasks run as user {os.geteuid()}"
    )


def open_way(folder: Path, uid: int) -> None:
    """Let a user through to its files in *folder*, whose own files stay closed; blocking.

    Raises:
        SpecUnsupported: A folder above is closed, and not ours to open.
    """
    folder.chmod(0o711)
    for parent in folder.parents:
        status = parent.stat()
        if not status.st_mode & 0o001 and status.st_uid != uid:
            raise SpecUnsupported(
                f"user {uid} cannot reach its files: {parent} is closed to others; chmod o+x it"
            )
