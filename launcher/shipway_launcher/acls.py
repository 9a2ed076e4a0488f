"""Access lists: who else may see, change and share the environments of an owner. Blocking load and save."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipway_common.files import write_atomic
from shipway_launcher.errors import SetupError, StorageError

_VERSION = 1
_EVERYBODY = "*"


class Level(enum.StrEnum):
    """What somebody wants to do; each includes those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


class Stage(enum.StrEnum):
    """Of which environments; each has access lists of its own."""

    RUNNING = "running"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessList:
    """Users by name; `*` is everybody."""

    allowed: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acls:
    """The access lists of one owner for one stage."""

    read: AccessList = field(default_factory=AccessList)
    write: AccessList = field(default_factory=AccessList)
    admin: AccessList = field(default_factory=AccessList)

    def allow(self, user: str, level: Level) -> bool:
        """Say whether *user*, who is not the owner, may do this.

        Who may do more may do less. What is forbidden wins over what is allowed; a user who is
        allowed by name is not meant by a forbidden `*`.
        """
        lists = [self.read, self.write, self.admin][list(Level).index(level) :]
        forbidden = lists[0].forbidden
        if user in forbidden:
            return False
        if any(user in one.allowed and user not in one.forbidden for one in lists):
            return True
        if _EVERYBODY in forbidden:
            return False
        return any(
            _EVERYBODY in one.allowed and not {_EVERYBODY, user} & {*one.forbidden} for one in lists
        )


class AclBook:
    """The file `acls.json` in job_storage_root."""

    def __init__(self, root: Path) -> None:
        """Use the job_storage_root *root*; `load` reads the file."""
        self._path = root / "acls.json"
        self._acls: dict[Stage, dict[str, Acls]] = {stage: {} for stage in Stage}

    def load(self) -> None:
        """Read the file, if there is one.

        Raises:
            SetupError: It cannot be read; without it, what is forbidden would be allowed.
        """
        try:
            record: dict[str, Any] = json.loads(self._path.read_bytes())
            if record["version"] != _VERSION:
                raise ValueError(f"version {record['version']} is not {_VERSION}")
            self._acls = {
                stage: {owner: _parse(acls) for owner, acls in record[stage].items()}
                for stage in Stage
            }
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SetupError(f"job_storage_root: {self._path} cannot be read: {error!r}") from error

    def get(self, owner: str, stage: Stage) -> Acls:
        """Return the access lists of an owner; without any, nobody else is allowed anything."""
        return self._acls[stage].get(owner, Acls())

    def put(self, owner: str, stage: Stage, acls: Acls) -> None:
        """Replace the access lists of an owner, on disk first.

        Raises:
            StorageError: The file cannot be written; the old lists still stand.
        """
        changed = {name: dict(owners) for name, owners in self._acls.items()}
        changed[stage][owner] = acls
        if acls == Acls():
            del changed[stage][owner]
        record = {
            "version": _VERSION,
            **{
                str(name): {owner: render_acls(one) for owner, one in owners.items()}
                for name, owners in changed.items()
            },
        }
        try:
            write_atomic(self._path, json.dumps(record, indent=1).encode())
        except OSError as error:
            raise StorageError(f"the access lists cannot be kept: {error}") from error
        self._acls = changed


def render_acls(acls: Acls) -> dict[str, dict[str, list[str]]]:
    """Write access lists in the form of the API, which is that of the file as well."""
    return {
        str(level): {"allowed": list(one.allowed), "forbidden": list(one.forbidden)}
        for level, one in (
            (Level.READ, acls.read),
            (Level.WRITE, acls.write),
            (Level.ADMIN, acls.admin),
        )
    }


def _parse(record: Mapping[str, Any]) -> Acls:
    lists = {
        level: AccessList(
            allowed=tuple(map(str, record[level]["allowed"])),
            forbidden=tuple(map(str, record[level]["forbidden"])),
        )
        for level in Level
    }
    return Acls(read=lists[Level.READ], write=lists[Level.WRITE], admin=lists[Level.ADMIN])
