"""Whether a container has the program that it is to start.

An init in the container starts in any case, and what it says of a program that it cannot start looks
like the program's own words and exit status. So the program is looked for before.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from shipway_agent.errors import LaunchRefused, RuntimeRefused
from shipway_agent.runtimes.dockerforms import Json
from shipway_agent.runtimes.engine import Engine
from shipway_agent.runtimes.environment import DEFAULT_PATH

CODES_OF_INIT = frozenset({1, 126, 127})
"""How an init ends that cannot start its program; programs may end so as well."""

_MOST_LINKS = 16

# As Docker's init (tini) and Podman's (catatonit) say it.
_init_words = re.compile(
    rb"(?:\[FATAL tini \(\d+\)\] exec .* failed|ERROR \(catatonit:\d+\): failed to exec pid1): (.*)"
)


async def check_program(engine: Engine, inspected: Json) -> None:
    """Refuse to start a container, made with an init, whose program is not there.

    Raises:
        LaunchRefused: Names the program.
    """
    config: Json = inspected["Config"]
    words: list[str] = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not words or not inspected["HostConfig"].get("Init"):
        return
    is_there = False
    for path in _candidates(words[0], config):
        status = await _follow(engine, inspected["Id"], path)
        if status is _unknown:
            return  # the engine cannot say; then its start will
        if status is None or status.is_folder:
            continue
        if status.may_run:
            return
        is_there = True
    if is_there:
        raise LaunchRefused(f"starting container: {words[0]}: permission denied", exit_code=126)
    raise LaunchRefused(
        f"starting container: {words[0]}: no such program in the container", exit_code=127
    )


def refusal_in(output: bytes) -> str:
    """Return why an init could not start its program, if it says so at the end of its output."""
    lines = output.splitlines() or [b""]
    found = _init_words.fullmatch(lines[-1])
    return found[1].decode(errors="replace") if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Status:
    mode: int = 0
    """As Go writes it: permissions, and what kind of file it is in the high bits."""
    link_target: str = ""

    @property
    def is_folder(self) -> bool:
        return bool(self.mode & 1 << 31)

    @property
    def is_link(self) -> bool:
        return bool(self.mode & 1 << 27)

    @property
    def may_run(self) -> bool:
        return bool(self.mode & 0o111)


_unknown = _Status()


def _candidates(program: str, config: Json) -> Iterator[str]:
    """Yield where the program may lie."""
    work_dir = str(config.get("WorkingDir") or "/")
    if "/" in program:
        yield posixpath.join(work_dir, program)
        return
    variables = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    for folder in variables.get("PATH", DEFAULT_PATH).split(":"):
        yield posixpath.join(work_dir, folder, program)


async def _follow(engine: Engine, native_id: str, path: str) -> _Status | None:
    """Return what lies at *path*, behind all links."""
    for _ in range(_MOST_LINKS):
        status = await _stat(engine, native_id, path)
        if status is None or not status.is_link:
            return status
        path = posixpath.join(posixpath.dirname(path), status.link_target)
    return None


async def _stat(engine: Engine, native_id: str, path: str) -> _Status | None:
    try:
        async with engine.stream(
            "HEAD", f"containers/{native_id}/archive", params={"path": path}
        ) as response:
            header = response.headers.get("X-Docker-Container-Path-Stat", "")
    except RuntimeRefused as error:
        return None if error.status == 404 else _unknown
    try:
        told: Json = json.loads(base64.b64decode(header))
        return _Status(mode=int(told["mode"]), link_target=str(told.get("linkTarget") or ""))
    except (ValueError, KeyError, TypeError):
        return _unknown
