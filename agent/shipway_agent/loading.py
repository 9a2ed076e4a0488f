"""The settings of this process: from its flags, its environment and the file that they name."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.config import DEFAULT_FILE, AgentSettings, load_settings
from shipway_agent.errors import SettingsUnreadable
from shipway_common.settings import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, and how they came."""

    settings: AgentSettings
    file: Path | None
    """Where they were read, if there was a file."""
    warnings: list[Problem]
    """What was given and has no effect."""


def load_process_settings(
    config_file: Path | None,
    flags: Mapping[str, str | None],
    *,
    environ: Mapping[str, str],
    needs_master: bool,
) -> Loaded:
    """Read the file, and merge it with flags and environment; blocking.

    Args:
        config_file: As the command line names it; None: as the environment does, or the default.
        flags: By dotted key; None means "not given".
        environ: The environment.
        needs_master: Refuse settings that do not say where the master is.

    Raises:
        SettingsError: Something in them is wrong; lists all of it.
        SettingsUnreadable: The file that was named is not there, or cannot be read.
    """
    chosen = config_file or (Path(name) if (name := environ.get("DET_CONFIG_FILE")) else None)
    file = chosen or DEFAULT_FILE
    try:
        text: str | None = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        text = None
        if chosen is not None:
            raise SettingsUnreadable(f"{file}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsUnreadable(f"{file}: cannot be read: {error}") from error
    settings, warnings = load_settings(
        flags=flags,
        environ=environ,
        file_text=text,
        file_name=str(file) if text is not None else "settings",
        host_name=socket.gethostname(),
        is_root=os.geteuid() == 0,
        needs_master=needs_master,
    )
    return Loaded(settings=settings, file=file if text is not None else None, warnings=warnings)
