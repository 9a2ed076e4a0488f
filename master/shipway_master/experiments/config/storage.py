"""The section `checkpoint_storage`: where checkpoints go, and how many of them stay."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    field_validator,
    model_serializer,
    model_validator,
)

from shipway_common.settings import Settings
from shipway_master.experiments.config.masking import SECRET_KEYS
from shipway_master.tasks.model import MASK

_Count = Annotated[int, Field(ge=0)]


class Kept(Settings):
    """Which checkpoints outlive the experiment; what any of them names stays."""

    save_experiment_best: _Count = Field(
        default=0, description="So many of the best of all trials stay."
    )
    save_trial_best: _Count = Field(
        default=1, description="So many of the best of each trial stay."
    )
    save_trial_latest: _Count = Field(
        default=1, description="So many of the newest of each trial stay."
    )


_LEFT_OUT_WHEN_UNSET: Final = frozenset(
    (
        *("container_path", "checkpoint_path", "tensorboard_path"),
        *("connection_string", "account_url", "credential"),
    )
)


class _Storage(Kept):
    """Of its JSON, that with `for_log` in its context hides the secrets."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(
        self, write: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Write as Determined does, which leaves out some keys without a value."""
        plain: dict[str, Any] = write(self)
        is_for_log = bool(info.context and cast("Mapping[str, Any]", info.context).get("for_log"))
        return {
            key: MASK if is_for_log and value and key in SECRET_KEYS else value
            for key, value in plain.items()
            if value is not None or key not in _LEFT_OUT_WHEN_UNSET
        }


class SharedFs(_Storage):
    """A folder that is the same on all nodes, mounted into each container."""

    type: Literal["shared_fs"] = Field(description="Kind of storage.")
    host_path: str = Field(min_length=1, description="The folder on the nodes.")
    storage_path: str | None = Field(
        default=None, description="Folder below `host_path` for the checkpoints, relative or whole."
    )
    propagation: Literal["rprivate", "private", "rshared", "shared", "rslave", "slave"] = Field(
        default="rprivate", description="How mounts below the folder are seen, as Docker has it."
    )
    container_path: str | None = Field(default=None, description="Older; read and not used.")
    checkpoint_path: str | None = Field(default=None, description="Older; read and not used.")
    tensorboard_path: str | None = Field(default=None, description="Older; read and not used.")

    @field_validator("host_path")
    @classmethod
    def _must_be_absolute(cls, value: str) -> str:
        if not value.startswith("/") or "\0" in value:
            raise ValueError("it must be an absolute path")
        return value

    @model_validator(mode="after")
    def _check_storage_path(self) -> SharedFs:
        path = posixpath.normpath(posixpath.join(self.host_path, self.storage_path or ""))
        above = posixpath.normpath(self.host_path)
        if "\0" in path or not (path == above or path.startswith(above.rstrip("/") + "/")):
            raise ValueError("storage_path must be a folder below host_path, relative or whole")
        return self


class Directory(_Storage):
    """A folder in the container that the user mounts himself."""

    type: Literal["directory"] = Field(description="Kind of storage.")
    container_path: str = Field(min_length=1, description="The folder in the container.")


def _check_prefix(value: str | None) -> str | None:
    if value is not None and ".." in value.split("/"):
        raise ValueError("it must not have '..' in it")
    return value


class S3(_Storage):
    """A bucket of Amazon S3, or of a server that speaks as it does."""

    type: Literal["s3"] = Field(description="Kind of storage.")
    bucket: str = Field(min_length=1, description="The bucket.")
    access_key: str | None = Field(default=None, repr=False, description="Name of the credentials.")
    secret_key: str | None = Field(default=None, repr=False, description="Their secret.")
    endpoint_url: str | None = Field(
        default=None, description="URL of a server other than Amazon's."
    )
    prefix: str | None = Field(default=None, description="Folder in the bucket.")

    _prefix_stays_inside = field_validator("prefix")(_check_prefix)


class Gcs(_Storage):
    """A bucket of Google Cloud Storage."""

    type: Literal["gcs"] = Field(description="Kind of storage.")
    bucket: str = Field(min_length=1, description="The bucket.")
    prefix: str | None = Field(default=None, description="Folder in the bucket.")

    _prefix_stays_inside = field_validator("prefix")(_check_prefix)


class Azure(_Storage):
    """A container of Azure Blob Storage."""

    type: Literal["azure"] = Field(description="Kind of storage.")
    container: str = Field(min_length=1, description="The container of blobs.")
    connection_string: str | None = Field(
        default=None, repr=False, description="Account and credentials; or `account_url`."
    )
    account_url: str | None = Field(default=None, description="URL of the account.")
    credential: str | None = Field(
        default=None,
        repr=False,
        description="Credentials for `account_url`, where they are needed.",
    )

    @model_validator(mode="after")
    def _check_account(self) -> Azure:
        if (self.connection_string is None) == (self.account_url is None):
            raise ValueError("exactly one of connection_string and account_url must be given")
        if self.connection_string is not None and self.credential is not None:
            raise ValueError("credential goes with account_url, not with connection_string")
        return self


Storage = SharedFs | Directory | S3 | Gcs | Azure

STORAGES: Final[Mapping[str, type[Storage]]] = {
    "shared_fs": SharedFs,
    "directory": Directory,
    "s3": S3,
    "gcs": Gcs,
    "azure": Azure,
}


def _choose_model(value: object) -> object:
    """Check the section by the model that its `type` means, so that mistakes are told by it."""
    if isinstance(value, _Storage):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("it must be a mapping with the type of a storage in it")
    section = cast("Mapping[str, object]", value)
    kind = section.get("type")
    model = STORAGES.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join(STORAGES)
        found = "type is missing" if kind is None else f"there is no type {str(kind)[:80]!r}"
        raise ValueError(f"{found}: it is one of {known}")
    return model.model_validate(section, strict=True)


CheckpointStorage = Annotated[
    SharedFs | Directory | S3 | Gcs | Azure, BeforeValidator(_choose_model)
]
"""The section, as the type of a field."""
_adapter: Final = TypeAdapter[Storage](CheckpointStorage)


def merge_storages(high: Mapping[str, Any], low: Mapping[str, Any]) -> dict[str, Any]:
    """Put *high* over *low*; of a storage of another type only what stays of checkpoints counts.

    An account of Azure is not mixed out of both.
    """
    kind = high.get("type") or low.get("type")
    if low.get("type") not in (None, kind):
        low = {key: value for key, value in low.items() if key in Kept.model_fields}
    if high.get("connection_string") or high.get("account_url"):
        account = ("connection_string", "account_url", "credential")
        low = {key: value for key, value in low.items() if key not in account}
    return {**low, **high}


def parse_checkpoint_storage(section: Mapping[str, Any]) -> Storage:
    """Check a storage that stands by itself, as a workspace's or the master's.

    Raises:
        pydantic.ValidationError: It is none.
    """
    return _adapter.validate_python(section)
