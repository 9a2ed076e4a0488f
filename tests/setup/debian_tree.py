"""A small Debian of another release in a folder, for programs that this machine's release lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAM = Path(__file__).with_name("in-root.sh")
_USELESS = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale")


def make_tree(
    tree: Path,
    suite: str,
    packages: Sequence[str],
    *,
    change: Callable[[Path], None] = lambda _: None,
) -> None:
    """Lay *suite* with *packages* into the folder *tree*, whole or not at all. Needs root.

    Args:
        tree: Where it goes; what is there already is replaced.
        suite: Debian's name of the release.
        packages: What is wanted beside the least.
        change: Is done to the tree before it takes its place.

    Raises:
        subprocess.CalledProcessError: debootstrap failed.
    """
    tree.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{suite}-", dir=tree.parent) as folder:
        aside = Path(folder) / "root"
        include = "--include=" + ",".join(["ca-certificates", *packages])
        subprocess.run(
            ["debootstrap", "--variant=minbase", include, suite, aside, *_mirror()],
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
            stdout=subprocess.DEVNULL,  # thousands of lines; what goes wrong is on stderr
            check=True,
        )
        for name in _USELESS:
            shutil.rmtree(aside / name, ignore_errors=True)
        change(aside)
        shutil.rmtree(tree, ignore_errors=True)
        aside.rename(tree)


def put_program(program: Path) -> None:
    """Put the program that runs its namesake in the tree beside its folder."""
    program.parent.mkdir(exist_ok=True)
    aside = program.with_name(f".{program.name}")
    shutil.copy(PROGRAM, aside)
    aside.chmod(0o755)
    aside.rename(program)


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
