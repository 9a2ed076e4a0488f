"""How the far end of an SSH link is started: a command for any login shell, then its source text.

The command holds only what sh, csh, tcsh and fish read alike. What start-up files print comes before
a marker that nobody can know, and what they read they do not get: the source text is sent only when
the marker has come.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Sequence

_PACKAGE = "shipway_launcher"
_MODULES = (
    "errors",
    "openfiles",
    "transport.tree",
    "transport.base",
    "transport.program",
    "transport.local",
    "transport.wire",
    "transport.frames",
    "transport.far",
)
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./+@:,=%~-]+")

# No single quote, no dollar sign, no backslash, no exclamation mark, no line end.
_FIRST = (
    "import sys;sys.stdout.write(sys.argv[1]+chr(10));sys.stdout.flush();"
    "r=sys.stdin.buffer;exec(r.read(int(r.readline())))"
)
_IS_NEW = "import sys;sys.exit(sys.version_info[:2] in [(3,n) for n in range(11)])"

_START = """\
import json, sys, types
sources, mark, silence_s = json.loads({data!r})
for name in ("{package}", "{package}.transport"):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
for name, text in sources:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules["{package}.transport.far"].main(mark, silence_s)
"""


def is_plain_word(text: str) -> bool:
    """Say whether every shell takes *text* for one word and leaves it as it is."""
    return _PLAIN_WORD.fullmatch(text) is not None


def render_start_command(pythons: Sequence[str], marker: str) -> str:
    """Return the command that prints *marker* on a line and waits for `render_source`.

    Args:
        pythons: Plain words; the first that is a Python of 3.11 or newer is taken.
        marker: A plain word.
    """
    words = " ".join(pythons)
    return (
        "exec /bin/sh -c '"
        f'for p in {words}; do "$p" -I -c "{_IS_NEW}" </dev/null >/dev/null 2>&1 '
        f'&& exec "$p" -I -X utf8 -c "{_FIRST}" {marker}; done; '
        f"echo no Python 3.11 or newer among {words} >&2; exit 127'"
    )


def render_source(mark: bytes, *, silence_s: float) -> bytes:
    """Return what the started Python reads: the length on a line, and its program."""
    data = json.dumps([_sources(), mark.hex(), silence_s])
    program = _START.format(data=data, package=_PACKAGE).encode()
    return f"{len(program)}\n".encode() + program


@functools.cache
def _sources() -> list[tuple[str, str]]:
    folder = importlib.resources.files(_PACKAGE)
    return [
        (f"{_PACKAGE}.{name}", folder.joinpath(f"{name.replace('.', '/')}.py").read_text("utf-8"))
        for name in _MODULES
    ]
