"""An apptainer for machines whose system has none, in a small Debian unstable of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

_PROGRAM = Path(__file__).with_name("apptainer-in-root.sh")
_USELESS = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")


def is_needed(cache: Path) -> bool:
    """Say whether neither the machine nor *cache* has an apptainer."""
    kept = cache / "bin/apptainer"
    return not (shutil.which("apptainer") or shutil.which("singularity") or kept.exists())


def make(cache: Path) -> None:
    """Lay the tree into *cache* and put the program `apptainer` into its bin folder. Needs root.

    Raises:
        subprocess.CalledProcessError: debootstrap failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sid-", dir=cache) as aside:
        tree = Path(aside) / "sid"
        packages = "--include=ca-certificates,apptainer"
        subprocess.run(
            ["debootstrap", "--variant=minbase", packages, "sid", tree, *_mirror()],
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
            stdout=subprocess.DEVNULL,  # thousands of lines; what goes wrong is on stderr
            check=True,
        )
        for name in _USELESS:
            shutil.rmtree(tree / name, ignore_errors=True)
        _configure(tree / "etc/apptainer/apptainer.conf")
        shutil.rmtree(cache / "sid", ignore_errors=True)
        tree.rename(cache / "sid")
    # The program comes last: it being there means that the whole is.
    program = cache / "bin/apptainer"
    program.parent.mkdir(exist_ok=True)
    aside_program = program.with_name(".apptainer")
    shutil.copy(_PROGRAM, aside_program)
    aside_program.chmod(0o755)
    aside_program.rename(program)


def _configure(config: Path) -> None:
    """Run containers without capabilities: asking for all fails where root itself lacks one."""
    text = config.read_text()
    changed = re.sub(
        r"(?m)^root default capabilities = .*$", "root default capabilities = no", text
    )
    config.write_text(changed)


def _mirror() -> list[str]:
    """Return the mirror that this machine's apt uses for Debian; none means debootstrap's own."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        origin, _, address = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return [address]
    return []
