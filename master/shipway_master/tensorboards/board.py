"""From experiments and trials to what a TensorBoard reads, and where that is: pure rules.

Facts: task-environment.md 6.1, 3.4; the image and the mounts of the task, 5.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from shipway_master.tasks.config import BadConfig, parse_config
from shipway_master.tasks.errors import BadTask
from shipway_master.tasks.model import BindMount, Environment, Images

_SHARED_FS_MOUNT: Final = "/determined_shared_fs"
_SEPARATORS: Final = ",:"
"""TensorBoard has no way to say them in the name of a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An experiment that is to be shown, or one trial of it."""

    experiment_id: int
    trial_id: int | None = None
    config: Mapping[str, Any] = field(repr=False)
    """The experiment's."""

    @property
    def name(self) -> str:
        """What the runs of it are called."""
        experiment = f"exp-{self.experiment_id}"
        return experiment if self.trial_id is None else f"{experiment}-trial-{self.trial_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What one TensorBoard shows."""

    experiment_ids: Sequence[int]
    trial_ids: Sequence[int]
    folders: Mapping[str, str]
    """By name: paths in the container, or URLs below *storage*."""
    storage: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """Where the URLs are, secrets included; empty where all folders are paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A board, and what its task needs to read it."""

    board: Board
    mounts: Sequence[BindMount]
    environment: Mapping[str, Any] = field(repr=False)
    """Image, registry and variables of the newest experiment."""

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Put what is needed under the user's configuration; a TensorBoard takes no slots.

        Raises:
            BadTask: The configuration cannot be used.
        """
        try:
            own = parse_config(config, has_entrypoint=False)
        except BadConfig as error:
            raise BadTask(str(error)) from error
        taken = {mount.container_path for mount in own.bind_mounts}
        needed = [mount for mount in self.mounts if mount.container_path not in taken]
        whole = own.model_copy(
            update={
                "environment": self._complete_environment(own.environment),
                "bind_mounts": [*needed, *own.bind_mounts],
                "resources": own.resources.model_copy(update={"slots": 0}),
            }
        )
        return whole.model_dump(mode="json", exclude_unset=True, context={"reveal": True})

    def _complete_environment(self, own: Environment) -> Environment:
        """Take the environment of the experiment, unless the user has chosen an image."""
        if own.image != Images():
            return own
        given = {name: self.environment.get(name) for name in _INHERITED}
        base = Environment.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
        return own.model_copy(
            update={
                "image": base.image,
                "registry_auth": own.registry_auth or base.registry_auth,
                "force_pull_image": own.force_pull_image or base.force_pull_image,
                "environment_variables": base.environment_variables.extended(
                    own.environment_variables
                ),
            }
        )


_INHERITED: Final = ("image", "registry_auth", "force_pull_image", "environment_variables")


def plan_board(sources: Sequence[Source], cluster_id: str) -> Plan:
    """Decide what a TensorBoard over *sources* reads, and what it needs for that.

    Raises:
        BadTask: Nothing is to be shown, or it cannot be shown together.
    """
    if not sources:
        raise BadTask("name at least one experiment or trial to show")
    places = _Places()
    folders: dict[str, str] = {}
    for source in sources:
        base = places.find_base(source)
        folder = f"{base}/{cluster_id}/tensorboard/experiment/{source.experiment_id}/"
        if source.trial_id is not None:
            folder += f"trial/{source.trial_id}/"
        _require_sayable(folder, places.storage, source)
        folders[source.name] = folder
    newest = max(sources, key=lambda one: one.experiment_id)
    board = Board(
        experiment_ids=[one.experiment_id for one in sources if one.trial_id is None],
        trial_ids=[one.trial_id for one in sources if one.trial_id is not None],
        folders=folders,
        storage=places.storage,
    )
    environment = cast("Mapping[str, Any]", newest.config.get("environment") or {})
    return Plan(board=board, mounts=list(places.mounts.values()), environment=environment)


class _Places:
    """The storages of all sources together."""

    def __init__(self) -> None:
        self.mounts: dict[str, BindMount] = {}
        """By the path in the container."""
        self.storage: Mapping[str, Any] = {}
        self._has_paths = False
        self._shared: dict[str, str] = {}

    def find_base(self, source: Source) -> str:
        """Find the folder or URL below which an experiment's files are, without a last slash."""
        storage: Mapping[str, Any] = source.config.get("checkpoint_storage") or {}
        match storage.get("type"):
            case "shared_fs":
                self._has_paths = True
                base = self._mount_shared(storage)
            case "directory":
                self._has_paths = True
                self._mount_own(source)
                base = str(storage["container_path"])
            case "s3":
                base = _join_url("s3", storage["bucket"], storage.get("prefix"))
                self._require_one(source, storage)
            case "gcs":
                base = _join_url("gs", storage["bucket"], storage.get("prefix"))
                self._require_one(source, storage)
            case "azure":
                base = _join_url("azure", storage["container"], None)
                self._require_one(source, storage)
            case _:
                raise BadTask(
                    f"experiment {source.experiment_id} does not say where its metrics are: it has "
                    "no checkpoint_storage"
                )
        if self._has_paths and self.storage:
            raise _not_together(source)
        return base.rstrip("/")

    def _mount_shared(self, storage: Mapping[str, Any]) -> str:
        host_path = posixpath.normpath(str(storage["host_path"]))
        inside = self._shared.get(host_path)
        if inside is None:
            number = f"_{len(self._shared) + 1}" if self._shared else ""
            inside = self._shared[host_path] = f"{_SHARED_FS_MOUNT}{number}"
            self.mounts[inside] = BindMount(
                host_path=host_path,
                container_path=inside,
                propagation=storage.get("propagation") or "rprivate",
                read_only=True,
            )
        whole = posixpath.join(host_path, str(storage.get("storage_path") or ""))
        return posixpath.normpath(posixpath.join(inside, posixpath.relpath(whole, host_path)))

    def _mount_own(self, source: Source) -> None:
        """Take the mounts of an experiment whose storage is a folder in one of them."""
        given = cast("Sequence[Any]", source.config.get("bind_mounts") or ())
        for mount in (BindMount.model_validate(one) for one in given):
            inside = mount.container_path
            known = self.mounts.setdefault(inside, mount)
            if known.host_path != mount.host_path:
                raise BadTask(
                    f"experiment {source.experiment_id} has {mount.host_path} at {inside}, where "
                    f"another one has {known.host_path}: show them one by one"
                )

    def _require_one(self, source: Source, storage: Mapping[str, Any]) -> None:
        """Let all have one bucket and one way into it."""
        relevant = {key: value for key, value in storage.items() if key in _ACCESS_KEYS}
        if not self.storage:
            self.storage = relevant
        elif {**self.storage, "prefix": None} != {**relevant, "prefix": None}:
            raise _not_together(source)


_ACCESS_KEYS: Final = frozenset(
    (
        *("type", "bucket", "prefix", "access_key", "secret_key", "endpoint_url"),
        *("container", "connection_string", "account_url", "credential"),
    )
)


def _not_together(source: Source) -> BadTask:
    return BadTask(
        f"the metrics of experiment {source.experiment_id} are in another storage than those of "
        "the others: start one TensorBoard for each"
    )


def _join_url(scheme: str, bucket: str, prefix: str | None) -> str:
    inside = (prefix or "").strip("/")
    return f"{scheme}://{bucket.rstrip('/')}/{inside}" if inside else f"{scheme}://{bucket}"


def _require_sayable(folder: str, storage: Mapping[str, Any], source: Source) -> None:
    forbidden = "," if storage else _SEPARATORS
    if any(character in folder for character in forbidden):
        raise BadTask(
            f"the storage of experiment {source.experiment_id} has a comma or a colon in its path "
            f"({folder}), which TensorBoard cannot be told"
        )
