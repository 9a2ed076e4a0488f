"""The manifest: what a client wants to have run, checked and in our own words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shipway_launcher.errors import WrongRequest

_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
"""May be one: those of U+DC80 to U+DCFF stand for bytes that are no UTF-8, and others for nothing."""
_MAX_VALUE_BYTES = 131071 - 256
"""Linux takes no longer string as an argument or a variable, its name included (MAX_ARG_STRLEN)."""


class _Wire(BaseModel):
    """Part of the JSON text; unknown members are none of our business."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _ClientMetadata(_Wire):
    name: str


class _Data(_Wire):
    source: str
    target: str
    readOnly: bool = False  # noqa: N815 (wire name)


class _LaunchParameters(_Wire):
    environment: dict[str, str] | None = None
    configuration: dict[str, str] | None = None
    data: list[_Data] | None = None
    images: dict[str, str] | None = None
    arguments: list[str] | None = None
    custom: dict[str, list[str] | None] | None = None


class _ResourceRequirements(_Wire):
    instances: dict[str, int] | None = None
    cores: dict[str, float] | None = None
    gpus: dict[str, int] | None = None


class _Payload(_Wire):
    name: str = Field(min_length=1)
    carriers: list[str] = Field(min_length=1)
    launchParameters: _LaunchParameters  # noqa: N815 (wire name)
    resourceRequirements: _ResourceRequirements | None = None  # noqa: N815 (wire name)


class _Manifest(_Wire):
    manifestVersion: str  # noqa: N815 (wire name)
    clientMetadata: _ClientMetadata  # noqa: N815 (wire name)
    payloads: list[_Payload] = Field(min_length=1, max_length=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A path of the host that the container sees under another name."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the job needs; None: not said."""

    nodes: int | None = None
    per_node: int | None = None
    gpus_total: int | None = None
    gpus_per_instance: int | None = None
    gpus_per_node: int | None = None
    cores_per_node: int | None = None
    cores_per_instance: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What to launch."""

    client: str
    payload: str
    carriers: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    configuration: Mapping[str, str] = field(default_factory=dict[str, str])
    mounts: tuple[BindMount, ...] = ()
    image: str | None = None
    arguments: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    slurm_arguments: tuple[str, ...] = ()
    pbs_arguments: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    resources: Resources = field(default_factory=Resources)

    @property
    def has_master(self) -> bool:
        """Whether it comes from a master; people launch jobs without one, too."""
        names = ("DET_MASTER", "DET_SESSION_TOKEN", "DET_ALLOCATION_ID")
        return any(name in self.environment for name in names)


def parse_json(body: bytes) -> dict[str, Any]:
    """Read a manifest's text; what is no UTF-8 in its strings is kept as surrogates.

    Raises:
        WrongRequest: It is no JSON object.
    """
    try:
        loaded: Any = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise WrongRequest(f"the manifest is not JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise WrongRequest("the manifest must be a JSON object")
    if _HALF_CHARACTER.search(body):
        try:
            json.dumps(loaded, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise WrongRequest(f"the manifest holds half of a character: {half}") from error
    return cast("dict[str, Any]", loaded)


def parse_manifest(data: Mapping[str, Any]) -> Manifest:
    """Check a manifest and take from it what we use.

    Raises:
        WrongRequest: Lists each member that is missing or wrong.
    """
    try:
        wire = _Manifest.model_validate(data)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise WrongRequest("the manifest cannot be used: " + "; ".join(problems)) from error
    payload = wire.payloads[0]
    parameters = payload.launchParameters
    custom = parameters.custom or {}
    manifest = Manifest(
        client=wire.clientMetadata.name,
        payload=payload.name,
        carriers=tuple(payload.carriers),
        environment=parameters.environment or {},
        configuration=parameters.configuration or {},
        mounts=tuple(
            BindMount(source=data.source, target=data.target, read_only=data.readOnly)
            for data in parameters.data or ()
        ),
        image=(parameters.images or {}).get("default") or None,
        arguments=tuple(parameters.arguments or ()),
        archives=tuple(custom.get("Archives") or ()),
        slurm_arguments=tuple(custom.get("slurmArgs") or ()),
        pbs_arguments=tuple(custom.get("pbsArgs") or ()),
        ports=_ports(custom.get("ports") or []),
        resources=_resources(payload.resourceRequirements or _ResourceRequirements()),
    )
    _check(manifest)
    return manifest


def _resources(wire: _ResourceRequirements) -> Resources:
    instances, gpus, cores = wire.instances or {}, wire.gpus or {}, wire.cores or {}
    for place, numbers in (("instances", instances), ("gpus", gpus), ("cores", cores)):
        for key, number in numbers.items():
            if not 0 < number < 1 << 24:
                raise WrongRequest(f"resourceRequirements.{place}.{key}: {number} cannot be")

    def whole(key: str) -> int | None:
        return None if key not in cores else -int(-cores[key] // 1)

    return Resources(
        nodes=instances.get("nodes"),
        per_node=instances.get("per-node"),
        gpus_total=gpus.get("total"),
        gpus_per_instance=gpus.get("per-instance"),
        gpus_per_node=gpus.get("per-node"),
        cores_per_node=whole("per-node"),
        cores_per_instance=whole("per-instance"),
    )


def _ports(texts: list[str]) -> tuple[int, ...]:
    for text in texts:
        if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
            raise WrongRequest(f"custom.ports: {text[:40]!r} is no port")
    return tuple(int(text) for text in texts)


def _check(manifest: Manifest) -> None:
    for name, value in manifest.environment.items():
        if not name or "=" in name or "\0" in name:
            raise WrongRequest(f"environment: {name[:80]!r} is no name of a variable")
        if "\0" in value:
            raise WrongRequest(f"environment: the value of {name[:80]} holds a NUL byte")
        size = len((name + value).encode("utf-8", "surrogateescape"))
        if size > _MAX_VALUE_BYTES:
            raise WrongRequest(
                f"environment: {name[:80]} has {size} bytes; Linux starts no program with a"
                f" variable over {_MAX_VALUE_BYTES}"
            )
    for argument in manifest.arguments:
        if "\0" in argument:
            raise WrongRequest(f"arguments: {argument[:80]!r} holds a NUL byte")
        size = len(argument.encode("utf-8", "surrogateescape"))
        if size > _MAX_VALUE_BYTES:
            raise WrongRequest(
                f"arguments: {argument[:80]!r} has {size} bytes; Linux starts no program with an"
                f" argument over {_MAX_VALUE_BYTES}"
            )
    for mount in manifest.mounts:
        for text in (mount.source, mount.target):
            if not text or re.search(r"[\x00\n]", text):
                raise WrongRequest(f"data: {text[:80]!r} is no path to mount")
