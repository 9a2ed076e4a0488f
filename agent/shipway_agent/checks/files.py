"""Who may read and write the files that the agent trusts. All of it blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import yaml
from yarl import URL

from shipway_agent.config import AgentSettings
from shipway_common.settings import Problem

_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy")


def find_unsafe(settings: AgentSettings, file: Path | None) -> list[Problem]:
    """List the files whose mode the agent does not accept, each with its place and remedy.

    Args:
        settings: They name the keys.
        file: The settings file, if there is one.
    """
    problems: list[Problem] = []
    if file is not None:
        problems += _unsafe_settings(file)
    for name, key in _keys(settings):
        if _mode(key) & stat.S_IROTH:
            place = f"{file or 'settings'}: {name}"
            problems.append(Problem(place, f"everybody may read {key}; chmod o-rwx {key}"))
    return problems


def find_doubtful(settings: AgentSettings, file: Path | None) -> list[Problem]:
    """List what is accepted but should not be so."""
    problems: list[Problem] = []
    if file is not None:
        mode = _mode(file)
        if mode & stat.S_IWGRP:
            text = "its group may write the file, and so decide what runs as this user; chmod g-w"
            problems.append(Problem(str(file), text))
        if os.geteuid() == 0 and file.stat().st_uid != 0:
            problems.append(Problem(str(file), "the file is not root's own; chown root"))
    for name, key in _keys(settings):
        if _mode(key) & stat.S_IRGRP:
            problems.append(Problem(f"{file or 'settings'}: {name}", f"its group may read {key}"))
    return problems


def _keys(settings: AgentSettings) -> Iterator[tuple[str, Path]]:
    """Give the secret keys that are in use, by the setting that names each."""
    if (client_key := settings.security.tls.client_key) is not None:
        yield "security.tls.client_key", client_key
    if settings.api_enabled and settings.tls and settings.tls_key is not None:
        yield "tls_key", settings.tls_key


def _unsafe_settings(file: Path) -> Iterator[Problem]:
    mode = _mode(file)
    if mode & stat.S_IWOTH:
        text = f"everybody may write the file, and so decide what runs here; chmod o-w {file}"
        yield Problem(str(file), text)
    if mode & stat.S_IROTH:
        values: dict[object, object] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        for key, value in values.items():
            if str(key).lower() in _PROXIES and _has_password(str(value)):
                text = f"holds a password, and everybody may read the file; chmod o-rwx {file}"
                yield Problem(f"{file}: {key}", text)


def _has_password(address: str) -> bool:
    try:
        return bool(URL(address).password)
    except ValueError:
        return "@" in address


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:
        return 0  # that it cannot be used is said elsewhere
