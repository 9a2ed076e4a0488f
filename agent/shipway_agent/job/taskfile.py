"""The file in which the launcher says what a job has to run.

Its strings may hold bytes that are no UTF-8, as surrogates in JSON's own \\udcXX form; that is why
it is read by hand here: pydantic refuses such text.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from shipway_agent.job.errors import TaskFileError
from shipway_agent.runtimes.spec import Device, GpuVendor, Mount

VERSION = 1

RUNTIMES = ("apptainer", "podman", "enroot", "sandbox")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """One task: the same on each node of the job."""

    dispatch_id: str
    allocation_id: str
    name: str
    runtime: str
    image: str | None
    image_root: Path | None
    """Where image files lie, named like the images, as this node sees them."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    working_dir: str
    archives_dir: Path | None
    mounts: tuple[Mount, ...]
    network_mode: str
    ports: tuple[int, ...]
    devices: tuple[Device, ...]
    add_capabilities: tuple[str, ...]
    drop_capabilities: tuple[str, ...]
    gpu_vendor: GpuVendor | None
    disable_image_cache: bool
    master_url: str | None
    """None: the job belongs to no master, and reports to nobody."""
    warning_s: int | None
    """How long before its time limit Slurm warns the job; None: not at all."""
    keeps_usr1: bool
    """Whether the user had Slurm send SIGUSR1, so that the task wants that, not SIGTERM."""
    ship_logs: bool
    private_run_dir: bool


def load_task_file(path: Path) -> TaskFile:
    """Read the task file; blocking.

    Raises:
        TaskFileError: It cannot be read, others may read the token in it, or its content is wrong.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        data = path.read_bytes()
    except OSError as error:
        raise TaskFileError(f"cannot read the task file: {error}") from error
    if mode & 0o077:
        raise TaskFileError(
            f"{path} holds a token, but its mode {mode:04o} lets others use it; chmod 600 it"
        )
    return parse_task_file(data, name=str(path))


def parse_task_file(data: bytes, *, name: str) -> TaskFile:
    """Check the content of a task file.

    Raises:
        TaskFileError: With every mistake in it.
    """
    try:
        content: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TaskFileError(f"{name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TaskFileError(f"{name} must hold a JSON object")
    keys = cast("dict[str, Any]", content)
    if keys.get("version") != VERSION:
        raise TaskFileError(
            f"{name}: version is {keys.get('version')!r}, but this agent reads version {VERSION};"
            " launcher and agent must be of the same release"
        )
    reader = _Reader(keys)
    task = _read(reader)
    unknown = [f"{key}: is not known" for key in keys if key not in {*reader.seen, "version"}]
    if reader.mistakes or unknown:
        raise TaskFileError(f"{name}: " + "; ".join([*reader.mistakes, *unknown]))
    return task


def _read(reader: _Reader) -> TaskFile:
    task = TaskFile(
        dispatch_id=reader.take("dispatch_id", _filled),
        allocation_id=reader.take("allocation_id", _filled),
        name=reader.take("name", _text),
        runtime=reader.take("runtime", _one_of(*RUNTIMES)),
        image=reader.take("image", _optional(_filled)),
        image_root=reader.take("image_root", _optional(_absolute)),
        arguments=reader.take("arguments", _list(_text)),
        environment=reader.take("environment", _environment),
        working_dir=reader.take("working_dir", _text),
        archives_dir=reader.take("archives_dir", _optional(_absolute)),
        mounts=reader.take("mounts", _list(_mount)),
        network_mode=reader.take("network_mode", _text),
        ports=reader.take("ports", _list(_port)),
        devices=reader.take("devices", _list(_device)),
        add_capabilities=reader.take("add_capabilities", _list(_filled)),
        drop_capabilities=reader.take("drop_capabilities", _list(_filled)),
        gpu_vendor=reader.take("gpu_vendor", _optional(_one_of("nvidia", "rocm"))),
        disable_image_cache=reader.take("disable_image_cache", _boolean),
        master_url=reader.take("master_url", _optional(_url)),
        warning_s=reader.take("warning_s", _optional(_seconds)),
        keeps_usr1=reader.take("keeps_usr1", _boolean),
        ship_logs=reader.take("ship_logs", _boolean),
        private_run_dir=reader.take("private_run_dir", _boolean),
    )
    if not reader.mistakes:
        if not task.arguments and task.image is None:
            reader.mistakes.append("arguments: must name a program where there is no image")
        if task.image is None and task.runtime != "sandbox":
            reader.mistakes.append(f"image: {task.runtime} needs one")
        if task.master_url is not None and not task.environment.get("DET_SESSION_TOKEN"):
            reader.mistakes.append("environment: DET_SESSION_TOKEN is missing")
    return task


class _Reader:
    """Takes values out of the file, and notes what is wrong with them instead of stopping."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = keys
        self.seen: set[str] = set()
        self.mistakes: list[str] = []

    def take(self, key: str, read: Callable[[Any], Value]) -> Value:
        self.seen.add(key)
        try:
            if key not in self._keys:
                raise ValueError("is missing")
            return read(self._keys[key])
        except ValueError as error:
            self.mistakes.append(f"{key}: {error}")
            return cast("Value", None)  # never used: a mistake ends in an exception


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    if "\0" in value:
        raise ValueError("must not hold a zero byte")
    return value


def _filled(value: Any) -> str:
    text = _text(value)
    if not text:
        raise ValueError("must not be empty")
    return text


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("must be a whole number of seconds")
    return value


def _url(value: Any) -> str:
    text = _filled(value)
    if not text.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return text.rstrip("/")


def _absolute(value: Any) -> Path:
    path = Path(_filled(value))
    if not path.is_absolute():
        raise ValueError(f"{value!r} must be an absolute path")
    return path


def _port(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
        raise ValueError(f"{value!r} is no port")
    return value


def _one_of(*choices: str) -> Callable[[Any], Any]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is none of {', '.join(choices)}")
        return cast("str", value)

    return read


def _optional(read: Callable[[Any], Value]) -> Callable[[Any], Value | None]:
    return lambda value: None if value is None else read(value)


def _list(read: Callable[[Any], Value]) -> Callable[[Any], tuple[Value, ...]]:
    def read_all(value: Any) -> tuple[Value, ...]:
        if not isinstance(value, list):
            raise ValueError("must be a list")
        items: list[Value] = []
        for number, item in enumerate(cast("Sequence[Any]", value)):
            try:
                items.append(read(item))
            except ValueError as error:
                raise ValueError(f"[{number}] {error}") from error
        return tuple(items)

    return read_all


def _object(value: Any, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    keys = cast("dict[str, Any]", value)
    wrong = [key for key in keys if key not in (*required, *optional)]
    missing = [key for key in required if key not in keys]
    if wrong or missing:
        raise ValueError(f"must have the keys {', '.join(required)}, not {', '.join(keys)}")
    return keys


def _environment(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    found: dict[str, str] = {}
    for name, text in cast("dict[str, Any]", value).items():
        if not name or "=" in name or "\0" in name:
            raise ValueError(f"{name!r} is no name of a variable")
        try:
            found[name] = _text(text)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
    return found


def _mount(value: Any) -> Mount:
    keys = _object(value, ("source", "target"), ("read_only",))
    return Mount(
        source=_filled(keys["source"]),
        target=_filled(keys["target"]),
        read_only=_boolean(keys.get("read_only", False)),
    )


def _device(value: Any) -> Device:
    keys = _object(value, ("host", "container"), ("mode",))
    return Device(
        host=_filled(keys["host"]),
        container=_filled(keys["container"]),
        mode=_filled(keys.get("mode", "mrw")),
    )
