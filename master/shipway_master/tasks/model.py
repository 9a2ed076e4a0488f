"""The configuration of a task as users write it, checked part by part.

Keys are those of Determined's command and generic task configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BeforeValidator,
    Field,
    FieldSerializationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from shipway_common.settings import Settings
from shipway_master.durations import DurationS, render_duration
from shipway_master.sizes import parse_size

IdleType = Literal["kernels_or_terminals", "kernel_connections", "activity"]
DEFAULT_WORK_DIR = "/run/determined/workdir"
DEVICE_TYPES = ("cpu", "cuda", "rocm")
MASK = "********"
_LONGEST_IDLE_S = 100 * 365 * 86400


def _has(info: FieldSerializationInfo, key: str) -> bool:
    return bool(info.context and cast("Mapping[str, Any]", info.context).get(key))


def _by_device_type(value: object) -> object:
    """One value for all device types, or a mapping; `gpu` is the older name of `cuda`."""
    if value is None or isinstance(value, Settings):
        return value
    if not isinstance(value, Mapping):
        return dict.fromkeys(DEVICE_TYPES, value)
    values = dict(cast("Mapping[str, Any]", value))
    if "gpu" in values:
        values.setdefault("cuda", values.pop("gpu"))
    return {name: item for name, item in values.items() if item is not None}


class Images(Settings):
    """The image for each slot type; empty where nobody chose one."""

    cpu: str = ""
    cuda: str = ""
    rocm: str = ""

    _one_for_all = model_validator(mode="before")(_by_device_type)


class EnvironmentVariables(Settings):
    """`NAME=value` texts for each slot type; a name alone stands for an empty value.

    JSON with `for_log` in its context has the names only: values are often secrets.
    """

    cpu: Sequence[str] = ()
    """On slots without a GPU."""
    cuda: Sequence[str] = ()
    """On slots of NVIDIA."""
    rocm: Sequence[str] = ()
    """On slots of AMD."""

    _one_for_all = model_validator(mode="before")(_by_device_type)

    @field_validator("cpu", "cuda", "rocm")
    @classmethod
    def _check_names(cls, values: Sequence[str]) -> Sequence[str]:
        for text in values:
            name = text.partition("=")[0]
            if not name or "\0" in text:
                raise ValueError(f"{text[:80]!r} is no variable: write NAME=value")
        return values

    @field_serializer("cpu", "cuda", "rocm", when_used="json")
    def _hide(self, values: Sequence[str], info: FieldSerializationInfo) -> Sequence[str]:
        if not _has(info, "for_log"):
            return values
        return [f"{text.partition('=')[0]}={MASK}" for text in values]

    def get(self, device_type: str) -> Sequence[str]:
        """The variables for one slot type."""
        return cast("Sequence[str]", getattr(self, device_type, self.cuda))

    def extended(self, other: EnvironmentVariables) -> EnvironmentVariables:
        """These, then those of *other*."""
        return EnvironmentVariables(
            cpu=[*self.cpu, *other.cpu],
            cuda=[*self.cuda, *other.cuda],
            rocm=[*self.rocm, *other.rocm],
        )


class RegistryAuth(Settings):
    """Who pulls the image. JSON hides the secrets, unless its context has `reveal`."""

    username: str = ""
    """Who logs in."""
    password: str = Field(default="", repr=False)
    """His password."""
    auth: str = Field(default="", repr=False)
    """Name and password in base64, instead of both."""
    email: str = ""
    """Older; handed on."""
    serveraddress: str = ""
    """The registry; with one, the credentials are for its images alone."""
    identitytoken: str = Field(default="", repr=False)
    """A token that stands for the user."""
    registrytoken: str = Field(default="", repr=False)
    """A token that the registry takes as it is."""

    @field_serializer("password", "auth", "identitytoken", "registrytoken", when_used="json")
    def _hide(self, value: str, info: FieldSerializationInfo) -> str:
        return value if not value or _has(info, "reveal") else MASK


class ProxyPort(Settings):
    """A port that the task serves."""

    proxy_port: int = Field(ge=1, le=65535)
    """The port in the container."""
    default_service_id: bool = False
    """Whether it is found under the task's id alone, without its number."""
    proxy_tcp: bool = False
    """Whether it speaks anything but HTTP."""
    unauthenticated: bool = False
    """Whether everyone may use it, without a log-in."""


class Environment(Settings):
    """`environment`."""

    image: Images = Images()
    """The image, one for all or by slot type (`cpu`, `cuda`, `rocm`)."""
    environment_variables: EnvironmentVariables = EnvironmentVariables()
    """`NAME=value` texts, one list for all or by slot type."""
    ports: Mapping[str, int] = {}
    """Ports of the container by a name."""
    proxy_ports: Sequence[ProxyPort] = ()
    """Ports that are reached through the master."""
    registry_auth: RegistryAuth | None = None
    """Who pulls the image."""
    force_pull_image: bool = False
    """Whether the image is pulled although the node has one of its name."""
    add_capabilities: Sequence[str] = ()
    """Linux capabilities that the container has besides the usual ones."""
    drop_capabilities: Sequence[str] = ()
    """Linux capabilities that it has not."""
    pod_spec: Any = None
    """Read for compatibility; there is no Kubernetes here."""


class BindMount(Settings):
    """A folder of the host that the container sees."""

    host_path: str = Field(min_length=1)
    """Folder or file of the node; absolute."""
    container_path: str = Field(min_length=1)
    """Where it is in the container; a relative path is below the working folder."""
    read_only: bool = False
    """Whether the container may only read it."""
    propagation: Literal["rprivate", "private", "rshared", "shared", "rslave", "slave"] = "rprivate"
    """How mounts below it are seen, as Docker has it."""

    @field_validator("host_path")
    @classmethod
    def _must_be_absolute(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError(f"{value!r} is not absolute")
        return value

    @field_validator("container_path")
    @classmethod
    def _must_be_a_path(cls, value: str) -> str:
        if value == ".":
            raise ValueError("the working folder itself cannot be mounted over")
        return value


class DeviceMapping(Settings):
    """A device file that the container gets."""

    host_path: str = Field(min_length=1)
    """The device file of the node."""
    container_path: str = Field(min_length=1)
    """Where it is in the container."""
    mode: str = "mrw"
    """What the container may do: make (m), read (r), write (w)."""

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = value.split(":")
        if not 2 <= len(parts) <= 3:
            raise ValueError(f"{value!r} is not HOST:CONTAINER[:MODE]")
        keys = ("host_path", "container_path", "mode")
        return dict(zip(keys, parts, strict=False))


class Resources(Settings):
    """`resources`."""

    slots: int = Field(default=1, ge=0)
    resource_pool: str = ""
    priority: int | None = Field(default=None, ge=1, le=99)
    weight: float = Field(default=1.0, gt=0)
    max_slots: int | None = Field(default=None, ge=0)
    shm_size: Annotated[int | None, BeforeValidator(parse_size)] = Field(default=None, ge=0)
    devices: Sequence[DeviceMapping] = ()
    is_single_node: bool = False
    resource_manager: str = ""
    """Which resource manager's pool is meant, by its cluster_name."""


class SlurmOptions(Settings):
    """`slurm`."""

    slots_per_node: int | None = Field(default=None, ge=1)
    """Slots on each node; a task with more goes over several."""
    gpu_type: str | None = None
    """Type of GPU, as Slurm's GRES have it."""
    sbatch_args: Sequence[str] = ()
    """More options of sbatch."""

    def overridden(self, other: SlurmOptions) -> SlurmOptions:
        """These with *other* over them; arguments are put together."""
        return SlurmOptions(
            slots_per_node=other.slots_per_node or self.slots_per_node,
            gpu_type=self.gpu_type if other.gpu_type is None else other.gpu_type,
            sbatch_args=[*self.sbatch_args, *other.sbatch_args],
        )


def _as_words(value: object) -> object:
    return [value] if isinstance(value, str) else value


class TaskConfig(Settings):
    """The whole configuration of a command or a generic task."""

    description: str = ""
    name: str = ""
    """Taken as the description where there is none."""
    entrypoint: Annotated[Sequence[str], BeforeValidator(_as_words)] = ()
    """The program and its arguments; one word alone is given to `/bin/sh -c`."""
    environment: Environment = Environment()
    resources: Resources = Resources()
    bind_mounts: Sequence[BindMount] = ()
    work_dir: str | None = None
    debug: bool = False
    slurm: SlurmOptions = SlurmOptions()
    preemption_timeout: int | None = Field(default=None, ge=1)
    """Seconds that the task has to leave after it was asked to."""
    pbs: Any = None
    """Read for compatibility; there is no PBS here."""
    idle_timeout: DurationS | None = Field(default=None, ge=0, le=_LONGEST_IDLE_S)
    """Seconds for which nobody uses a notebook or TensorBoard until it is ended; 0: for ever.

    Where it is absent, the master's setting is put in when the task is made.
    """
    notebook_idle_type: IdleType | None = None
    """What a notebook does that is in use; by default it has a kernel or a terminal."""
    tensorboard_args: Sequence[str] | None = None
    """More arguments for `tensorboard`."""
    project: Any = None
    workspace: Any = None

    @field_serializer("idle_timeout", when_used="json-unless-none")
    def _render(self, value: float) -> str:
        return render_duration(value)
