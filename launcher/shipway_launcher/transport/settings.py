"""Settings of the way to the cluster: the part `ssh:` of the launcher's settings file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from shipway_common.settings import Settings
from shipway_launcher.transport.bundle import is_plain_word

DEFAULT_CONFIG_FILES = (Path("~/.ssh/config"), Path("/etc/ssh/ssh_config"))


class SshSettings(Settings):
    """How a login node is reached, if the launcher does not run on one."""

    host: str | None = Field(
        None,
        description="The login node, by a name or as a `Host` of the user's ssh config. With it,"
        " Slurm's commands run there, and job_storage_root, agent_command and the image root are"
        " paths there. Without it, they run on this machine.",
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of its sshd; by default the ssh config's, else 22."
    )
    user: str | None = Field(
        None,
        description="As whom to log in; by default the ssh config's, else the launcher's user.",
    )
    config_files: list[Path] = Field(
        default_factory=lambda: list(DEFAULT_CONFIG_FILES),
        description="OpenSSH's settings files to read, those that are there; in a key that is set"
        " twice the first wins.",
    )
    identity_file: Path | None = Field(
        None,
        description="Private key without a passphrase; by default those of the ssh config, of"
        " ~/.ssh and of the agent at SSH_AUTH_SOCK.",
    )
    known_hosts_file: Path | None = Field(
        None,
        description="The keys of the hosts; by default the ssh config's, else ~/.ssh/known_hosts"
        " and /etc/ssh/ssh_known_hosts. A host that is in none is not talked to.",
    )
    jump: str | None = Field(
        None,
        description="Hosts to go through, as in `ssh -J`: [user@]host[:port], separated by commas;"
        " by default the ssh config's ProxyJump or ProxyCommand.",
    )
    control_path: Path | None = Field(
        None,
        description="Socket of an OpenSSH master connection that somebody has opened (`ssh -M -S"
        " PATH HOST`), for sites where logging in needs a person. The launcher then uses the ssh"
        " program and logs in by no other way.",
    )
    python: str | None = Field(
        None,
        description="A Python of 3.11 or newer there; by default the one beside agent_command, else"
        " python3.13, python3.12, python3.11 or python3.",
    )
    connect_timeout_s: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Seconds that logging in may take."
    )
    silence_s: Annotated[float, Field(gt=0)] = Field(
        30.0,
        description="Seconds without a sign of life after which a link is dead. Both ends give one"
        " four times as often.",
    )
    relay_host: str = Field(
        "0.0.0.0",  # noqa: S104 (of the login node, where the compute nodes come)
        description="Address of the login node on which the relay's port listens for the jobs.",
    )
    relay_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="That port; by default the one in relay.advertised_url."
    )

    @field_validator("host", "user", "jump")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(
            r"[A-Za-z0-9_\[\]][^\s\x00-\x1f'\"\\;$`]*", value
        ):
            raise ValueError(f"{value!r} cannot be the name of a host or user")
        return value

    @field_validator("python")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        if value is not None and not is_plain_word(value):
            raise ValueError(f"{value!r} must be a path or name without blanks and quotes")
        return value

    @property
    def is_used(self) -> bool:
        """Whether the cluster is reached by SSH."""
        return self.host is not None

    def pythons(self, agent_command: str) -> list[str]:
        """Return where a Python may be on the login node."""
        if self.python is not None:
            return [self.python]
        beside = str(Path(agent_command).parent / "python")
        named = ["python3.13", "python3.12", "python3.11", "python3"]
        return [
            *([beside] if agent_command.startswith("/") and is_plain_word(beside) else []),
            *named,
        ]
