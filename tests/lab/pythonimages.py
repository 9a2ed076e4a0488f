"""An image with Python and the libraries that it needs, each where this machine has it; busybox is its shell.

The stock package `determined` is too large to be copied into an image for a test: the virtual environment that
has it is mounted, whose Python is the one in the image.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.images import image_tar
from tests.lab.processes import run

_WHERE = """
import json, sys, sysconfig
names = {**sysconfig.get_paths(), **sysconfig.get_config_vars()}
keys = ("stdlib", "DESTSHARED", "platlib")
print(json.dumps([sys._base_executable, *(names[key] for key in keys)]))
"""
_LEFT_OUT = {
    "tkinter",
    "site-packages",
    "dist-packages",
    "test",
    "idlelib",
    "ensurepip",
}


def python_image_tar(python: Path) -> bytes:
    """Return the files of an image for a virtual environment's *python*, as a tar."""
    answer = json.loads(run([python, "-c", _WHERE]).stdout)
    program, library, extensions, packages = map(Path, answer)
    users = [program, *extensions.glob("*.so"), *packages.rglob("*.so*")]
    buffer = io.BytesIO(image_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for path in (program, *_list_libraries(users)):
            if not path.is_relative_to(packages):
                archive.add(path.resolve(), arcname=str(path))
        archive.add(library, filter=_without_needless)
    return buffer.getvalue()


def _list_libraries(users: Sequence[Path]) -> list[Path]:
    """List what the loader finds for programs and libraries, and the loader itself."""
    needed = [path for path in users if not path.name.startswith("_tkinter")]
    printed = run(["ldd", *needed], check=False).stdout
    return [Path(path) for path in dict.fromkeys(re.findall(r"(/\S+) \(0x", printed))]


def _without_needless(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(entry.name).name
    is_needless = name in _LEFT_OUT or name.startswith("config-") or ".opt-" in name
    return None if is_needless else entry
