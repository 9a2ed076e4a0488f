"""A launcher that runs on a machine without Slurm: all of its face is there, and no job."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path
from typing import Any

from tests.lab.shipway import Launcher


def make_launcher(folder: Path, **config: Any) -> Launcher:
    """Prepare a launcher of this folder; what is in *config* is added to its settings."""
    (folder / "bin").mkdir(exist_ok=True)
    return Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment={},
        config={
            "slurm": {"bin_dir": str(folder / "bin")},
            "relay": {"enabled": False},
            **config,
        },
    )


def make_certificate(folder: Path, name: str = "cert") -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1, which is its own authority, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext"),
            *("subjectAltName=IP:127.0.0.1", "-out", str(cert), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return cert, key
