"""An apptainer for machines whose system has none, in a small Debian unstable of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.setup.debian_tree import make_tree, put_program


def is_needed(cache: Path) -> bool:
    """Say whether neither the machine nor *cache* has an apptainer."""
    kept = cache / "bin/apptainer"
    return not (shutil.which("apptainer") or shutil.which("singularity") or kept.exists())


def make(cache: Path) -> None:
    """Lay the tree into *cache* and put the program `apptainer` into its bin folder. Needs root.

    Raises:
        subprocess.CalledProcessError: debootstrap failed.
    """
    make_tree(cache / "sid", "sid", ["apptainer"], change=_configure)
    # The program comes last: it being there means that the whole is.
    put_program(cache / "bin/apptainer")


def _configure(tree: Path) -> None:
    """Run containers without capabilities: asking for all fails where root itself lacks one."""
    config = tree / "etc/apptainer/apptainer.conf"
    text = config.read_text()
    changed = re.sub(
        r"(?m)^root default capabilities = .*$", "root default capabilities = no", text
    )
    config.write_text(changed)
