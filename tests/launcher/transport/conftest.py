"""A real sshd to go through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shipway_launcher.transport.control import OpensshDialer
from shipway_launcher.transport.dial import AsyncsshDialer
from shipway_launcher.transport.link import Link
from shipway_launcher.transport.settings import SshSettings
from tests.lab import sshd as sshd_lab
from tests.lab.folders import new_folder
from tests.lab.require import require
from tests.lab.sshd import Sshd


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    """One that is left as it is."""
    require("sshd", sshd_lab.missing_programs())
    with Sshd(new_folder("sshd")) as server:
        yield server


def link_to(
    sshd: Sshd, *, silence_s: float = 30, connect_timeout_s: float = 60, **changes: Any
) -> Link:
    """Make a link, not entered yet; *changes* are of the settings."""
    settings = SshSettings.model_validate({**sshd.settings, **changes})
    dialer = AsyncsshDialer(settings) if settings.control_path is None else OpensshDialer(settings)
    return Link(
        "the login node",
        dialer.dial,
        pythons=["python3.11", "/usr/bin/python3"],
        connect_timeout_s=connect_timeout_s,
        silence_s=silence_s,
    )
