"""From what a user sent to a checked configuration, and back to what he is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from shipway_common.settings import explain
from shipway_master.tasks.defaults import TaskContainerDefaults
from shipway_master.tasks.model import (
    DEFAULT_WORK_DIR,
    Images,
    SlurmOptions,
    TaskConfig,
)
from shipway_master.yamltext import BadYaml, parse_yaml


class BadConfig(ValueError):
    """The configuration cannot be used; the text names each mistake with its key."""


def parse_config(given: Mapping[str, Any], *, has_entrypoint: bool = True) -> TaskConfig:
    """Check a configuration that came as data; null is the same as absent.

    Args:
        has_entrypoint: Whether the user says what runs; the master does for what serves people.

    Raises:
        BadConfig: A key is unknown or a value does not fit, or there is nothing to run.
    """
    try:
        config = TaskConfig.model_validate(_without_nulls(given))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'config'}: {explain(problem, TaskConfig)}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise BadConfig("invalid config: " + "; ".join(problems)) from error
    if has_entrypoint and not (config.entrypoint and config.entrypoint[0]):
        raise BadConfig("invalid config: entrypoint: there is nothing to run")
    words = {"entrypoint": config.entrypoint, "tensorboard_args": config.tensorboard_args or ()}
    for key in words:
        if any("\0" in word for word in words[key]):
            raise BadConfig(f"invalid config: {key}: a word has a NUL byte in it")
    return config


def load_config_text(text: str) -> TaskConfig:
    """Check a configuration that came as YAML.

    Raises:
        BadConfig: As `parse_config`, or it is no YAML mapping.
    """
    try:
        loaded: Any = parse_yaml(text)
    except BadYaml as error:
        raise BadConfig(f"invalid config: {error}") from error
    if not isinstance(loaded, dict):
        raise BadConfig("invalid config: it must be a mapping of keys to values")
    return parse_config(cast("dict[str, Any]", loaded))


def apply_defaults(
    config: TaskConfig, defaults: TaskContainerDefaults, *, has_files: bool
) -> TaskConfig:
    """Put *config* over the defaults of its pool.

    A default working folder gives way to the task's files, which are put into the standard one.

    Raises:
        BadConfig: The user wants both files and a working folder of his own.
    """
    if has_files and config.work_dir not in (None, DEFAULT_WORK_DIR):
        raise BadConfig(
            f"invalid config: work_dir: the files that were sent are put into {DEFAULT_WORK_DIR}; "
            "send no files or leave work_dir out"
        )
    own = config.environment
    environment = own.model_copy(
        update={
            "image": _merge_images(defaults.image or Images(), own.image),
            "environment_variables": defaults.environment_variables.extended(
                own.environment_variables
            ),
            "registry_auth": own.registry_auth or defaults.registry_auth,
            "force_pull_image": own.force_pull_image or bool(defaults.force_pull_image),
            "add_capabilities": _union(defaults.add_capabilities, own.add_capabilities),
            "drop_capabilities": _union(defaults.drop_capabilities, own.drop_capabilities),
        }
    )
    return config.model_copy(
        update={
            "environment": environment,
            "bind_mounts": _merge_mounts(defaults, config),
            "work_dir": _choose_work_dir(config, defaults, has_files=has_files),
            "slurm": SlurmOptions.overridden(defaults.slurm, config.slurm),
            "resources": config.resources.model_copy(
                update={
                    "devices": [*defaults.devices, *config.resources.devices],
                    "shm_size": defaults.shm_size_bytes
                    if config.resources.shm_size is None
                    else config.resources.shm_size,
                }
            ),
            "preemption_timeout": config.preemption_timeout or defaults.preemption_timeout,
        }
    )


def dump_config(config: TaskConfig) -> dict[str, Any]:
    """Write the configuration as plain data, registry passwords hidden."""
    return config.model_dump(mode="json", exclude={"name", "project", "workspace"})


def _merge_images(low: Images, high: Images) -> Images:
    return Images(cpu=high.cpu or low.cpu, cuda=high.cuda or low.cuda, rocm=high.rocm or low.rocm)


def _union(low: Sequence[str], high: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*low, *high]))


def _merge_mounts(defaults: TaskContainerDefaults, config: TaskConfig) -> list[Any]:
    own = {mount.container_path for mount in config.bind_mounts}
    kept = [mount for mount in defaults.bind_mounts if mount.container_path not in own]
    return [*kept, *config.bind_mounts]


def _choose_work_dir(
    config: TaskConfig, defaults: TaskContainerDefaults, *, has_files: bool
) -> str:
    if config.work_dir:
        return config.work_dir
    return DEFAULT_WORK_DIR if has_files else defaults.work_dir or DEFAULT_WORK_DIR


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {str(key): _without_nulls(item) for key, item in items if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in cast("Sequence[Any]", value)]
    return value
