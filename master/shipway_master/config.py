"""Settings of the master; keys are those of Determined's `master.yaml` where it has them.

Sections that belong to one part (`resource_manager`, `resource_pools`, …) are models in that part's
own `config.py`; here they are only named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from shipway_common.logsetup import LogFormat
from shipway_common.settings import Settings, parse_settings
from shipway_master.agents.config import AgentManagerConfig
from shipway_master.cluster.config import (
    AdditionalResourceManager,
    PoolConfig,
    ResourceManagerConfig,
    check_managers,
)
from shipway_master.durations import DurationS
from shipway_master.experiments.config.storage import CheckpointStorage, SharedFs
from shipway_master.proxynetworks import PRIVATE, Network
from shipway_master.retention import RetentionPolicy
from shipway_master.tasks.defaults import TaskContainerDefaults
from shipway_master.tasks.owners import DefaultTaskUser

MASK = "********"
_BACKENDS = ("sqlite", "postgresql")
_URL_FORMS = "give sqlite:////PATH/OF/FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME"


class Log(Settings):
    """What the master logs, and how."""

    level: Literal["trace", "debug", "info", "warn", "warning", "error"] = "info"
    """Least important lines to write."""
    format: LogFormat = "text"
    """Form of the lines."""
    color: bool = False
    """Read for compatibility; log lines are never coloured."""

    @property
    def python_level(self) -> str:
        """The level by the name that Python's logging has for it."""
        return {"trace": "debug", "warn": "warning"}.get(self.level, self.level)


class Tls(Settings):
    """Certificate of the master; without one it speaks plain text."""

    cert: Path | None = None
    """PEM file with the certificate and its chain."""
    key: Path | None = None
    """PEM file with the private key."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or none")
        return self


class Token(Settings):
    """How long access tokens live (`det token create`)."""

    default_lifespan_days: int = Field(default=30, ge=1, le=36500)
    """Of those made without saying how long."""
    max_lifespan_days: int = Field(default=36500, ge=1, le=36500)
    """The longest that may be asked for; also what `never` means."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.default_lifespan_days > self.max_lifespan_days:
            raise ValueError("default_lifespan_days is more than max_lifespan_days")
        return self


class Security(Settings):
    """Who gets in."""

    initial_user_password: SecretStr | None = None
    """Password of `admin` and `determined` when they are created; generated if absent."""
    default_task: DefaultTaskUser = DefaultTaskUser()
    """As whom tasks run whose owner has no agent user of his own."""
    tls: Tls = Tls()
    token: Token = Token()
    proxy_networks: Sequence[Network] = PRIVATE
    """Where the proxy leads when a task tells by itself where it is, as those in Slurm jobs do."""

    @field_serializer("initial_user_password", when_used="always")
    def _mask(self, value: SecretStr | None) -> str | None:
        return None if value is None else MASK


class Webhooks(Settings):
    """Calls to other systems when something happens."""

    signing_key: SecretStr | None = Field(default=None, min_length=8)
    """What the calls are signed with; generated into the data folder if absent."""
    base_url: str = ""
    """Read for compatibility; calls have no links to pages."""

    @field_serializer("signing_key", when_used="always")
    def _mask(self, value: SecretStr | None) -> str | None:
        return None if value is None else MASK


class Db(Settings):
    """Where the state is: a SQLite file in the data folder, unless a server is named."""

    url: SecretStr | None = None
    """A database as SQLAlchemy writes it; wins over the keys below."""
    host: str | None = None
    """Host of a PostgreSQL server (needs the package asyncpg)."""
    port: int = Field(default=5432, ge=1, le=65535)
    """Its port."""
    user: str | None = None
    """As whom to log in there."""
    password: SecretStr | None = None
    """That user's password."""
    name: str = "determined"
    """Name of the database."""

    @field_serializer("url", "password", when_used="always")
    def _mask(self, value: SecretStr | None) -> str | None:
        return None if value is None else MASK

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            url = None if value is None else make_url(value.get_secret_value())
        except ArgumentError as error:
            raise ValueError(_URL_FORMS) from error
        if url is not None and not (url.database and url.get_backend_name() in _BACKENDS):
            raise ValueError(_URL_FORMS)
        return value

    def resolve_url(self, data: Path) -> URL:
        """Say which database to open, *data* being the data folder."""
        if self.url is not None:
            return make_url(self.url.get_secret_value())
        if self.host is None:
            return URL.create("sqlite", database=str(data / "master.db"))
        password = self.password.get_secret_value() if self.password else None
        return URL.create(
            "postgresql",
            username=self.user,
            password=password,
            host=self.host,
            port=self.port,
            database=self.name,
        )


class MasterConfig(Settings):
    """All settings of shipway-master."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """TCP port of everything: gRPC, REST, agents; 0 takes a free one."""
    data: Path = Path.home() / ".local/share/shipway-master"
    """Folder of the database and of generated secrets; made with mode 0700."""
    cluster_name: str = ""
    """Name that clients show."""
    log: Log = Log()
    security: Security = Security()
    db: Db = Db()
    retention_policy: RetentionPolicy = RetentionPolicy()
    """How long logs are kept."""
    resource_manager: ResourceManagerConfig = AgentManagerConfig()
    """Where tasks run: on agents, or in Slurm through a launcher; agents may always call in."""
    resource_pools: Sequence[PoolConfig] = ()
    """Pools of `resource_manager`; without any, agents have the pool `default`."""
    additional_resource_managers: Sequence[AdditionalResourceManager] = ()
    """More of them, each with its pools."""
    notebook_timeout: DurationS | None = Field(default=None, ge=0)
    """Seconds for which nobody uses a notebook until it is ended; unset or 0: for ever."""
    tensorboard_timeout: DurationS | None = Field(default=300, ge=0)
    """The same for TensorBoards; 0: for ever."""
    task_container_defaults: TaskContainerDefaults = TaskContainerDefaults()
    """What tasks get that do not say otherwise."""
    checkpoint_storage: CheckpointStorage = SharedFs(
        type="shared_fs",
        host_path="/tmp",  # noqa: S108 (Determined's own default)
        storage_path="determined-checkpoint",
    )
    """Where trials keep their checkpoints that do not say otherwise."""

    webhooks: Webhooks = Webhooks()
    """Calls to other systems when something happens."""

    @model_validator(mode="after")
    def _check_managers(self) -> Self:
        check_managers(self.list_resource_managers())
        return self

    def list_resource_managers(
        self,
    ) -> list[tuple[ResourceManagerConfig, Sequence[PoolConfig]]]:
        """All resource managers with their pools, the main one first."""
        more = self.additional_resource_managers
        return [
            (self.resource_manager, self.resource_pools),
            *((one.resource_manager, one.resource_pools) for one in more),
        ]

    @field_validator("data")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    def masked(self) -> dict[str, Any]:
        """Dump the settings as plain JSON data, secrets hidden."""
        return self.model_dump(mode="json", context={"for_log": True})


def load_config(*, file_text: str | None, file_name: str, flags: Mapping[str, Any]) -> MasterConfig:
    """Read the settings: flags over file over defaults.

    Raises:
        SettingsError: Something in them is wrong.
    """
    return parse_settings(MasterConfig, file_text=file_text, file_name=file_name, flags=flags)
