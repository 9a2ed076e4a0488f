"""Credential helpers as programs on PATH."""

from __future__ import annotations

import os
from pathlib import Path


def helper_environment(folder: Path, script: str) -> dict[str, str]:
    """Make `docker-credential-lab`, which runs *script* with the server in $server."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    helper = programs / "docker-credential-lab"
    helper.write_text(f"#!/bin/sh\nread -r server\n{script}\n")
    helper.chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}"}
