"""Settings of the launcher: its own file, and the launcher's keys of a Determined master.yaml."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import Field, field_validator, model_validator

from shipway_common.settings import Settings, SettingsError, parse_settings
from shipway_launcher.batch.settings import BatchSettings
from shipway_launcher.carriers.table import Manager
from shipway_launcher.pbs.settings import PbsSettings
from shipway_launcher.relay.settings import RelaySettings
from shipway_launcher.transport.settings import SshSettings
from shipway_launcher.transport.sudo import DEFAULT_HELPER

_MASTER_KEYS = (
    *("port", "auth_file", "user_name", "group_name", "sudo_authorized", "job_storage_root"),
    *("singularity_image_root", "apptainer_image_root", "path", "ld_library_path"),
)
_CHANGES_SLURM = re.compile(
    r"(SBATCH|SALLOC|SQUEUE|SINFO|SACCT|SCANCEL|SCONTROL)_.*|SLURM_(TIME_FORMAT|CLUSTERS|EXIT_.*)"
)


class Impersonation(enum.StrEnum):
    """How jobs are run as someone else."""

    NONE = "none"
    SUDO = "sudo"


class SlurmSettings(Settings):
    """How Slurm's commands are called."""

    conf_file: Path | None = Field(
        None,
        description="Slurm's configuration file; SLURM_CONF in the launcher's own environment wins"
        " over it. With neither, Slurm finds it by itself.",
    )
    bin_dir: Path | None = Field(
        None, description="Folder of Slurm's commands; by default they are looked for in path."
    )
    environment: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Variables that Slurm's commands, and so all jobs, get beside PATH, HOME,"
        " USER, LOGNAME, SHELL, LANG and SLURM_CONF. Nothing else of the launcher's environment"
        " reaches them.",
    )
    backend: Literal["auto", "cli", "pyslurm"] = Field(
        "auto",
        description="How jobs are submitted and cancelled on this machine: `cli` by sbatch and"
        " scancel; `pyslurm` through pyslurm where it fits this Slurm and its jobs come out the same,"
        " else by the commands; `auto` the same, without a warning where there is no pyslurm.",
    )
    pyslurm_python: Path = Field(
        default_factory=lambda: Path(sys.executable),
        description="The Python that has pyslurm, by default the launcher's own.",
    )
    query_timeout_s: Annotated[float, Field(gt=0)] = Field(
        20.0, description="Seconds for which an answer of squeue, sinfo, scontrol is waited for."
    )
    submit_timeout_s: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Seconds for which an answer of sbatch is waited for."
    )
    settle_s: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="Seconds for which a launch looks for its job when sbatch gave no clear"
        " answer; after that the launch is answered and the search goes on.",
    )
    pass_wckey: bool = Field(
        True,
        description="Hand the master's --wckey to sbatch; switch off where workload"
        " characterization keys must be known to the accounting database.",
    )

    @field_validator("environment")
    @classmethod
    def _leaves_slurm_alone(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if _CHANGES_SLURM.fullmatch(name):
                raise ValueError(f"{name} changes what Slurm's commands print or do")
        return value


class WatchSettings(Settings):
    """How jobs are watched."""

    interval_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Seconds between two questions to Slurm; each asks for all jobs at once."
    )
    missing_after_s: Annotated[float, Field(ge=0)] = Field(
        30.0,
        description="Seconds for which a working Slurm must not know a job, before the job is"
        " called missing.",
    )
    max_age_s: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="How old Slurm's answer may be on which the answer to a caller rests, in"
        " seconds; a caller asks for another age with `Cache-Control: max-age=N`.",
    )
    unanswered_after_s: Annotated[float, Field(ge=0)] = Field(
        3600.0,
        description="The same where the accounting database, which may know the job, does not"
        " answer.",
    )
    kill_after_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Seconds after a cancel until a job that is still there gets SIGKILL."
    )


class LimitSettings(Settings):
    """How much of everything."""

    body_mib: Annotated[int, Field(ge=1)] = Field(
        64, description="Largest request body that is accepted, in MiB."
    )
    body_timeout_s: Annotated[float, Field(gt=0)] = Field(
        120.0,
        description="Seconds within which a request's body must have arrived, and the first request"
        " on a new connection.",
    )
    requests_per_s: Annotated[float, Field(gt=0)] = Field(
        50.0,
        description="Requests per second of one user's tokens, and of one address with wrong"
        " tokens; four times as many at once. The administrator's are not limited.",
    )
    archives_mib: Annotated[int, Field(ge=1)] = Field(
        512, description="Most that the archives of one manifest may unpack to, in MiB."
    )
    concurrent_launches: Annotated[int, Field(ge=1)] = Field(
        8, description="Launches worked on at once; more wait."
    )
    keep_ended_h: Annotated[float, Field(gt=0)] = Field(
        168.0, description="Hours after which an ended dispatch that nobody deleted is removed."
    )
    keep_refused_min: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Minutes after which a dispatch that Slurm refused is removed."
    )


class ApiTlsSettings(Settings):
    """TLS of the REST face."""

    cert_file: Path | None = Field(
        None,
        description="PEM file with the certificate and those between it and the authority; with"
        " it the launcher speaks https only.",
    )
    key_file: Path | None = Field(None, description="PEM file with the certificate's key.")

    @model_validator(mode="after")
    def _has_both(self) -> ApiTlsSettings:
        if (self.cert_file is None) is not (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        return self


class LogSettings(Settings):
    """What the launcher says of itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important lines to write."
    )
    format: Literal["text", "json"] = Field("text", description="Form of the lines.")


def _default_agent() -> list[str]:
    return [str(Path(sys.executable).parent / "shipway-agent")]


class LauncherSettings(Settings):
    """Everything that can be set."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8181, description="Port to listen on; 0 takes any free one."
    )
    auth_file: Path | None = Field(
        None,
        description="File with the token that callers must send. Made at the first start (mode"
        " 0600, no line end) and kept. By default `launcher.token` in state_dir.",
    )
    auth_file_group: str | None = Field(
        None,
        description="Unix group that may read auth_file when the launcher makes it (mode 0640),"
        " for a master that runs as another user.",
    )
    require_token: bool = Field(
        True,
        description="Whether callers must send a token. Without, everybody who reaches the port"
        " can do everything, so host must be on loopback.",
    )
    token_grace_h: Annotated[float, Field(ge=0)] = Field(
        24.0, description="Hours for which a token that was replaced in auth_file is still taken."
    )
    tls: ApiTlsSettings = Field(default_factory=lambda: ApiTlsSettings.model_validate({}))
    job_storage_root: Path = Field(
        default_factory=lambda: Path.home() / ".launcher",
        description="Folder for the files of jobs, and for the launcher's records if state_dir is not"
        " set; the compute nodes must see it under the same path. By default `~/.launcher`.",
    )
    state_dir: Path | None = Field(
        None,
        description="Folder on this machine for the launcher's records. By default"
        " job_storage_root; over SSH `~/.launcher`.",
    )
    user_name: str | None = Field(
        None,
        description="Who runs the launcher; over SSH, as whom it logs in. `root` must be named here"
        " to be allowed.",
    )
    group_name: str | None = Field(
        None, description="The launcher's Unix group, as in master.yaml; `check` compares it."
    )
    impersonation: Impersonation = Field(
        Impersonation.NONE,
        description="`none`: all jobs run as the launcher's user. `sudo`: as the user whom the"
        " master names, by `sudo -n -u`.",
    )
    sudo_authorized: str = Field(
        "ALL", description="Users whom the launcher may act for, separated by commas, or ALL."
    )
    sudo_helper: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=lambda: list(DEFAULT_HELPER),
        description="The program that moves files as another user, as a list of words; by default"
        " a module of the launcher's own Python, which those users must be able to run.",
    )
    singularity_image_root: Path | None = Field(
        None,
        description="Folder of image files, named like the images (`org/name:tag`), as the compute"
        " nodes see it.",
    )
    apptainer_image_root: Path | None = Field(
        None, description="The same as singularity_image_root; only one of them can be set."
    )
    path: str | None = Field(
        None,
        description="PATH of Slurm's commands and of jobs; may contain `${PATH}`, which is all of it by default.",
    )
    ld_library_path: str | None = Field(
        None, description="LD_LIBRARY_PATH of Slurm's commands and of jobs."
    )
    agent_command: Annotated[list[str], Field(min_length=1)] = Field(
        default_factory=_default_agent,
        description="The agent on the compute nodes, as a list of words; by default the"
        " shipway-agent beside the launcher's own Python.",
    )
    workload_manager: Manager = Field(
        Manager.SLURM, description="What runs the jobs: `slurm` or `pbs`."
    )
    slurm: SlurmSettings = Field(default_factory=lambda: SlurmSettings.model_validate({}))
    pbs: PbsSettings = Field(default_factory=lambda: PbsSettings.model_validate({}))
    ssh: SshSettings = Field(default_factory=lambda: SshSettings.model_validate({}))
    batch: BatchSettings = Field(default_factory=lambda: BatchSettings.model_validate({}))
    watch: WatchSettings = Field(default_factory=lambda: WatchSettings.model_validate({}))
    limits: LimitSettings = Field(default_factory=lambda: LimitSettings.model_validate({}))
    relay_dir: Path | None = Field(
        None,
        description="Folder for what the relay keeps while the master is away, best on a local"
        " disk. By default `relay` in state_dir.",
    )
    relay: RelaySettings = Field(default_factory=lambda: RelaySettings.model_validate({}))
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}))

    @field_validator("job_storage_root")
    @classmethod
    def _is_plain_path(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("must be an absolute path")
        if re.search(r"[%\\\x00-\x1f\x7f]", str(value)):
            raise ValueError(
                "must hold no percent sign, backslash or control character: Slurm gives them a"
                " meaning in the names of output files"
            )
        return value

    @model_validator(mode="after")
    def _is_guarded(self) -> LauncherSettings:
        if not self.require_token and not is_loopback(self.host):
            raise ValueError("require_token: false needs a host on loopback, such as 127.0.0.1")
        return self

    @model_validator(mode="after")
    def _has_one_image_root(self) -> LauncherSettings:
        if self.singularity_image_root and self.apptainer_image_root:
            raise ValueError("set only one of singularity_image_root and apptainer_image_root")
        return self

    @model_validator(mode="after")
    def _says_what_is_on_the_login_node(self) -> LauncherSettings:
        if not self.ssh.is_used:
            return self
        for key in ("job_storage_root", "agent_command"):
            if key not in self.model_fields_set:
                raise ValueError(f"with ssh.host, {key} must be set: it is a path on that host")
        if not self.relay.enabled:
            return self
        if self.relay.advertised_url is None:
            raise ValueError(
                "with ssh.host, relay.advertised_url must be set: http://HOST:PORT, by which the"
                " compute nodes reach the login node (or relay.enabled: false)"
            )
        if self.relay.port == 0:
            raise ValueError("with ssh.host, relay.port cannot be 0: sshd is told of it")
        return self

    @model_validator(mode="after")
    def _has_root_that_pbs_takes(self) -> LauncherSettings:
        is_pbs = self.workload_manager is Manager.PBS
        if is_pbs and re.search(r"[\s:,\"'&]", str(self.job_storage_root)):
            raise ValueError(
                "with workload_manager: pbs, job_storage_root must hold no blank, colon, comma,"
                " ampersand or quotation mark: PBS gives them a meaning in the names of output files"
            )
        return self

    @property
    def bin_dir(self) -> Path | None:
        """The folder of the workload manager's commands, if it is set."""
        is_pbs = self.workload_manager is Manager.PBS
        return self.pbs.bin_dir if is_pbs else self.slurm.bin_dir

    @property
    def records_dir(self) -> Path:
        """Where the launcher's own records are, on this machine."""
        if self.state_dir is not None:
            return self.state_dir
        return Path.home() / ".launcher" if self.ssh.is_used else self.job_storage_root

    @property
    def token_file(self) -> Path:
        """Where the token is."""
        return self.auth_file or self.records_dir / "launcher.token"

    @property
    def image_root(self) -> Path | None:
        """Where image files are looked for."""
        return self.singularity_image_root or self.apptainer_image_root


def is_loopback(host: str) -> bool:
    """Say whether only this very machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(
    *,
    file_text: str | None = None,
    file_name: str = "settings file",
    master_text: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> LauncherSettings:
    """Merge the sources: flags over environment over the own file over master.yaml.

    Args:
        file_text: The launcher's own settings file.
        file_name: How to call it in errors.
        master_text: A master.yaml whose `resource_manager` section holds keys of the launcher.
        environment: Of the process; PATH and SLURM_CONF are taken from it.
        flags: Values from the command line; None means "not given".

    Raises:
        SettingsError: Lists each mistake with its key.
    """
    environment = environment or {}
    files = _load_mapping(file_text, file_name)
    if master_text is not None:
        files = _master_section(master_text) | files
    over: dict[str, Any] = dict(flags or {})
    is_here = not _names_login_node(files, over)
    if environment.get("SLURM_CONF") and is_here:
        over["slurm"] = {"conf_file": environment["SLURM_CONF"]}
    settings = parse_settings(LauncherSettings, environment=files, flags=over, file_name=file_name)
    if settings.ssh.is_used:
        return _of_login_node(settings)
    inherited = environment.get("PATH") or os.defpath
    path = (settings.path or "${PATH}").replace("${PATH}", inherited)
    return settings.model_copy(update={"path": path})


def _names_login_node(*sources: Mapping[str, Any]) -> bool:
    sections = [source.get("ssh") for source in sources]
    found = [cast("dict[str, Any]", one) for one in sections if isinstance(one, dict)]
    return any(one.get("host") for one in found)


def _of_login_node(settings: LauncherSettings) -> LauncherSettings:
    """Leave PATH to be found there, and take the helper of the Python that is there."""
    update: dict[str, Any] = {"path": settings.path or "${PATH}"}
    if "sudo_helper" not in settings.model_fields_set:
        python = settings.ssh.pythons(settings.agent_command[0])[0]
        update["sudo_helper"] = [python, *DEFAULT_HELPER[1:]]
    return settings.model_copy(update=update)


def _load_mapping(text: str | None, name: str) -> dict[str, Any]:
    try:
        loaded: Any = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{name} is not YAML: {error}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise SettingsError(f"{name} must be a mapping of keys to values")
    return cast("dict[str, Any]", loaded or {})


def _master_section(text: str) -> dict[str, Any]:
    loaded = _load_mapping(text, "the master's settings").get("resource_manager")
    if not isinstance(loaded, dict):
        raise SettingsError("the master's settings hold no section resource_manager")
    section = cast("dict[str, Any]", loaded)
    managers = [str(manager) for manager in Manager]
    if section.get("type") not in managers:
        raise SettingsError(
            f"resource_manager.type is {section.get('type')!r}; the launcher drives"
            f" {' and '.join(managers)}"
        )
    taken = {key: section[key] for key in _MASTER_KEYS if section.get(key) not in (None, "")}
    return {"workload_manager": section["type"], **taken}
