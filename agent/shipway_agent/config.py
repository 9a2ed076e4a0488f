"""The agent's settings: keys as in Determined's agent.yaml, flags over DET_* variables over file."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from shipway_agent.legacy import find_misspelled, find_retired, retired, without_retired
from shipway_agent.runtimes.options import RuntimeName, RuntimeOptions, SandboxMode
from shipway_common.settings import (
    Problem,
    Settings,
    SettingsError,
    describe_field,
    parse_settings,
    walk_fields,
)

DEFAULT_FILE = Path("/etc/determined/agent.yaml")

SlotType = Literal["auto", "cuda", "gpu", "rocm", "cpu", "none"]
_retired_flags = {"log.color"}

LogLevel = Literal["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"]


def _words(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _paths(value: Any) -> Any:
    return [part for part in value.split(":") if part] if isinstance(value, str) else value


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_paths)]
Port = Annotated[int, Field(ge=0, le=65535)]


class LogSettings(Settings):
    """What the agent logs about itself."""

    level: LogLevel = Field(default="info", description="Least severe level that is logged.")
    format: Literal["text", "json"] = Field(default="text", description="Form of the log lines.")


class TlsSettings(Settings):
    """The connection to the master."""

    enabled: bool = Field(default=False, description="Speak TLS with the master.")
    skip_verify: bool = Field(default=False, description="Do not verify the master's certificate.")
    master_cert: Path | None = Field(
        default=None,
        description="PEM file with the only certificates to trust; unset: the system's.",
    )
    master_cert_name: str = Field(
        default="", description="Name that the master's certificate must carry; empty: master_host."
    )
    client_cert: Path | None = Field(
        default=None, description="PEM certificate shown to the master."
    )
    client_key: Path | None = Field(default=None, description="PEM key of client_cert.")

    @model_validator(mode="after")
    def _fits_together(self) -> TlsSettings:
        if self.master_cert is not None and self.skip_verify:
            raise ValueError("master_cert and skip_verify exclude each other")
        if (self.client_cert is None) != (self.client_key is None):
            raise ValueError("client_cert and client_key need each other")
        return self


class SecuritySettings(Settings):
    """How far the agent trusts, and is trusted."""

    tls: TlsSettings = TlsSettings()


class HookSettings(Settings):
    """Programs the agent runs when something happens to it."""

    on_connection_lost: Words = Field(
        default=(),
        repr=False,
        description="Program and arguments to run once per outage of the master; no shell.",
    )
    after_s: float = Field(
        default=150,
        ge=0,
        description="How long an outage lasts before the program runs, in seconds.",
    )
    timeout_s: float = Field(default=30, gt=0, description="When the program is ended, in seconds.")


class DockerSettings(Settings):
    """The Docker engine."""

    host: str | None = Field(
        default=None, description="URL of the engine; unset: DOCKER_HOST, else local."
    )


class PodmanSettings(Settings):
    """Podman."""

    socket: str | None = Field(default=None, description="URL of its API; unset: the usual places.")


class SandboxSettings(Settings):
    """The runtime without images."""

    mode: SandboxMode = Field(
        default="auto", description="bubblewrap, a plain process, or what works."
    )
    expose: Paths = Field(
        default=(), description="Host paths shown read-only inside; colon-separated."
    )
    hide: Paths = Field(default=(), description="Host folders shown empty inside; colon-separated.")


class ProfilingSettings(Settings):
    """Metrics of the node and the GPUs while a trial runs."""

    enabled: bool = Field(
        default=False,
        description="Profile every trial, not only those with SHIPWAY_PROFILE=true.",
    )


class AgentSettings(Settings):
    """Settings of `shipway-agent run`."""

    master_host: str = Field(default="", description="Host of the master; required.")
    master_port: Port = Field(
        default=0, description="Port of the master; 0: 443 with TLS, else 80."
    )
    agent_id: str = Field(default="", description="Name of this agent; empty: the host's name.")
    resource_pool: str = Field(
        default="default", description="Resource pool this agent belongs to."
    )
    container_master_host: str = Field(
        default="", description="Host of the master as containers reach it; empty: master_host."
    )
    container_master_port: Port = Field(
        default=0, description="Port of the master as containers reach it; 0: master_port."
    )
    slot_type: SlotType = Field(default="auto", description="Kind of devices to offer as slots.")
    visible_gpus: str | None = Field(
        default=None,
        description="GPUs to offer: indices, UUIDs or their beginnings, MIG ids or PCI addresses,"
        " comma-separated, or all; unset: what CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES,"
        " or ROCR_VISIBLE_DEVICES, leave.",
    )
    artificial_slots: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Offer this many slots that are no devices, for tests.",
    )
    slot_check_interval_s: float = Field(
        default=30,
        ge=1,
        description="How often the health of the devices is looked at, in seconds.",
    )
    slot_check_timeout_s: float = Field(
        default=10, gt=0, description="How long one device may take to answer, in seconds."
    )
    security: SecuritySettings = SecuritySettings()
    http_proxy: str = Field(default="", repr=False, description="HTTP_PROXY of containers.")
    https_proxy: str = Field(default="", repr=False, description="HTTPS_PROXY of containers.")
    ftp_proxy: str = Field(default="", repr=False, description="FTP_PROXY of containers.")
    no_proxy: str = Field(default="", repr=False, description="NO_PROXY of containers.")
    agent_reconnect_attempts: int = Field(
        default=0, description="Tries to reach the master before giving up; 0 or less: no last one."
    )
    agent_reconnect_backoff: float = Field(
        default=5, gt=0, description="Longest wait between two tries, in seconds."
    )
    master_silence_s: float = Field(
        default=60,
        ge=1,
        description="How long the master may answer no ping before the connection is taken for"
        " dead, in seconds.",
    )
    registration_pause_s: float = Field(
        default=30,
        ge=0,
        description="Wait before registering anew, in seconds; more than agent_reconnect_wait of"
        " the master's pool, which is 25 unless set.",
    )
    container_runtime: RuntimeName = Field(default="auto", description="What runs the containers.")
    container_auto_remove_disabled: bool = Field(
        default=False, description="Keep ended containers, for looking into them."
    )
    drain_on_stop: bool = Field(
        default=False,
        description="End the containers when the agent stops, instead of letting them go on.",
    )
    drain_grace_s: float = Field(
        default=30,
        ge=0,
        description="With drain_on_stop: time between SIGTERM and SIGKILL of a container, in"
        " seconds.",
    )
    state_dir: Path | None = Field(
        default=None,
        description="Folder on a local disk for what must survive the agent; unset:"
        " /var/lib/shipway-agent for root, else ~/.local/state/shipway-agent.",
    )
    image_root: Path | None = Field(
        default=None, description="Folder with image files of Apptainer or Enroot."
    )
    image_limit_gib: int | None = Field(
        default=None,
        ge=1,
        description="How much disk the images may take that were fetched for Apptainer or Enroot, in"
        " GiB; then those go that were not used for longest; unset: half of the disk.",
    )
    output_limit_mib: int = Field(
        default=1024,
        ge=1,
        description="How much output of one task is kept for a master that does not take it, in MiB,"
        " where no engine keeps it; then the task waits, after a minute it loses output.",
    )
    docker: DockerSettings = DockerSettings()
    podman: PodmanSettings = PodmanSettings()
    sandbox: SandboxSettings = SandboxSettings()
    profiling: ProfilingSettings = ProfilingSettings()
    api_enabled: bool = Field(
        default=False,
        description="Serve metrics, containers, slots and health at an HTTP port of the agent.",
    )
    bind_ip: str = Field(
        default="127.0.0.1",
        description="Address of that port; 0.0.0.0 or :: for every address of the machine.",
    )
    bind_port: Port = Field(default=9090, description="Number of that port; 0: any free one.")
    tls: bool = Field(default=False, description="Speak TLS at that port.")
    tls_cert: Path | None = Field(default=None, description="PEM certificate of that port.")
    tls_key: Path | None = Field(default=None, description="PEM key of tls_cert.")
    hooks: HookSettings = HookSettings()
    log: LogSettings = LogSettings()
    debug: bool = Field(default=False, description="Log at level debug.")

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, values: object) -> object:
        return without_retired(_lower_keys(values))

    @field_validator("agent_id", "resource_pool")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            raise ValueError("must not contain control characters")
        if len(value) > 253:
            raise ValueError("must not be longer than 253 characters")
        return value

    @field_validator("master_host", "container_master_host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        bare = value.removeprefix("[").removesuffix("]")
        if not re.fullmatch(r"[^\s:/@?#\[\]]*", bare) and not _is_address(bare):
            raise ValueError("must be a host's name or address alone; the port is a setting too")
        return value

    @field_validator("resource_pool")
    @classmethod
    def _is_not_empty(cls, value: str) -> str:
        return value or "default"  # the master takes an empty one as that, but only once

    @model_validator(mode="after")
    def _can_speak_tls(self) -> AgentSettings:
        if self.api_enabled and self.tls and (self.tls_cert is None or self.tls_key is None):
            raise ValueError("tls needs tls_cert and tls_key")
        return self

    @property
    def port(self) -> int:
        """Port of the master."""
        return self.master_port or (443 if self.security.tls.enabled else 80)

    @property
    def log_level(self) -> str:
        """Level in the words of our logging."""
        if self.debug or self.log.level in {"trace", "debug"}:
            return "debug"
        return {"warn": "warning", "fatal": "error", "panic": "error"}.get(
            self.log.level, self.log.level
        )

    def runtime_options(self, environ: Mapping[str, str]) -> RuntimeOptions:
        """Return what the container runtimes need to know of the settings."""
        assert self.state_dir is not None
        return RuntimeOptions(
            state_dir=self.state_dir,
            environ=environ,
            docker_host=self.docker.host,
            podman_socket=self.podman.socket,
            image_root=self.image_root,
            image_limit_bytes=self.image_limit_gib << 30 if self.image_limit_gib else None,
            output_limit_bytes=self.output_limit_mib << 20,
            sandbox_mode=self.sandbox.mode,
            sandbox_expose=self.sandbox.expose,
            sandbox_hide=self.sandbox.hide,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting as flag and environment variable."""

    key: str
    """Dotted path in the settings file."""
    is_flag: bool
    description: str

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return name_flag(self.key)

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return name_variable(self.key)


def name_flag(key: str) -> str:
    """Return how the setting *key* is called on the command line."""
    return "--" + key.replace(".", "-").replace("_", "-")


def name_variable(key: str) -> str:
    """Return how the setting *key* is called in the environment."""
    return "DET_" + key.replace(".", "_").upper()


def list_options() -> list[Option]:
    """List every setting that a flag or a variable may give, which is all of them."""
    return [
        Option(key=key, is_flag=field.annotation is bool, description=describe_field(field))
        for key, field in walk_fields(AgentSettings)
    ]


def changed_settings(settings: AgentSettings) -> dict[str, object]:
    """Return, by dotted key, what differs from the defaults; *** where it may be a secret."""
    return dict(_changed(settings, AgentSettings(), ""))


def _changed(settings: Settings, defaults: Settings, prefix: str) -> Iterator[tuple[str, object]]:
    for name, field in type(settings).model_fields.items():
        value, default = getattr(settings, name), getattr(defaults, name)
        if isinstance(value, Settings):
            yield from _changed(value, default, f"{prefix}{name}.")
        elif value != default:
            yield prefix + name, value if field.repr else "***"


def list_retired() -> list[Option]:
    """List the settings that have no effect any more but may still be given."""
    return [
        Option(key=key, is_flag=key in _retired_flags, description=f"No effect: {reason}.")
        for key, reason in retired.items()
        if key != "config_file" and not key.endswith("_options")
    ]


def load_settings(
    *,
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    file_text: str | None,
    file_name: str,
    host_name: str,
    is_root: bool,
    needs_master: bool = True,
) -> tuple[AgentSettings, list[Problem]]:
    """Merge the sources; returns the settings, and what was given and has no effect.

    Args:
        flags: By dotted key; None means "not given".
        host_name: The agent's id if none is set.
        is_root: Whether the default state folder is the system's.
        needs_master: Refuse settings that do not say where the master is.

    Raises:
        SettingsError: With every mistake, its source and key.
    """
    options = [*list_options(), *list_retired()]
    variables = _nest({option.key: environ.get(option.variable) or None for option in options})
    given = _nest(flags)
    settings = parse_settings(
        AgentSettings,
        file_text=file_text,
        file_name=file_name,
        environment=variables,
        flags=given,
        name_variable=name_variable,
        name_flag=name_flag,
    )
    if needs_master and not settings.master_host:
        raise SettingsError(
            f"{file_name}: master_host: is not set; give --master-host or DET_MASTER_HOST, or"
            " set it in the file"
        )
    state_dir = settings.state_dir or default_state_dir(environ, is_root=is_root)
    return settings.model_copy(
        update={
            "agent_id": settings.agent_id or host_name,
            # Shims and engines are told of it from other working folders.
            "state_dir": state_dir.expanduser().absolute(),
        }
    ), [
        *(
            Problem(f"{file_name}: {key}", text)
            for key, text in find_retired(_read_keys(file_text))
        ),
        *(Problem(name_variable(key), text) for key, text in find_retired(variables)),
        *(Problem(name_flag(key), text) for key, text in find_retired(given)),
        *(
            Problem(name, f"is no setting; {meant} is")
            for name, meant in find_misspelled(environ, [option.variable for option in options])
        ),
    ]


def default_state_dir(environ: Mapping[str, str], *, is_root: bool) -> Path:
    """Return where the agent keeps its state if nothing is said."""
    if by_systemd := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(by_systemd)
    if is_root:
        return Path("/var/lib/shipway-agent")
    state_home = environ.get("XDG_STATE_HOME") or os.path.join(
        environ.get("HOME", "/"), ".local/state"
    )
    return Path(state_home) / "shipway-agent"


def _nest(values: Mapping[str, str | None]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if value is None:
            continue
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def _read_keys(file_text: str | None) -> dict[str, object]:
    loaded: object = yaml.safe_load(file_text) if file_text else None
    return _lower_keys(loaded or {})


def _lower_keys(values: object) -> dict[str, object]:
    """Spell all keys in lower case, as the original reads them; of two spellings the last wins."""
    result: dict[str, object] = {}
    for key, value in cast("Mapping[object, object]", values).items():
        name = str(key).lower()
        if isinstance(value, Mapping):
            lowered = _lower_keys(cast("object", value))
            result[name] = {**_section(result, name), **lowered}
        else:
            result[name] = value
    return result


def _section(values: Mapping[str, object], name: str) -> dict[str, object]:
    value = values.get(name)
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
