"""The program `podman`: what we ask it, and how we read its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shipway_agent.errors import ImageNotFound, RuntimeRefused, UnreadableAnswer
from shipway_agent.runtimes.archives import tar_of
from shipway_agent.runtimes.commands import (
    CommandResult,
    follow_command,
    peek_command,
    run_command,
)
from shipway_agent.runtimes.spec import (
    ID_LABEL,
    Archive,
    ArchiveItem,
    Event,
    EventKind,
    ItemKind,
    OnEvent,
)

Json = dict[str, Any]

_CALL_LIMIT_S = 60.0
_REMOVE_LIMIT_S = 120.0

_no_container = re.compile(r"no such (container|object)|no container with", re.IGNORECASE)
_no_image = re.compile(r"image not known|no such image", re.IGNORECASE)
_name_taken = re.compile(r"already in use", re.IGNORECASE)


class NameTaken(RuntimeRefused):
    """Another container has that name."""


class PodmanCli:
    """Runs podman with an environment made on purpose."""

    def __init__(self, program: str, environment: Mapping[str, str]) -> None:
        self.program = program
        self.environment = environment

    async def info(self) -> Json:
        """Return what podman says of itself; it also shows whether it works at all."""
        result = await self._run("info", "--format", "json")
        if result.status != 0:
            raise RuntimeRefused(f"podman info: {result.words}", status=result.status)
        info: Json = _read_json(result.stdout, "info")
        return info

    async def create(self, arguments: Sequence[str], variables: Mapping[str, str]) -> str:
        """Make a container and return its id.

        Args:
            arguments: As in `create_arguments`, and a name.
            variables: Values of the variables that *arguments* names.
        """
        result = await run_command(
            [self.program, "create", *arguments],
            {**variables, **self.environment},
            limit_s=_CALL_LIMIT_S,
        )
        if result.status == 0:
            return result.stdout.decode("ascii", "replace").strip().rpartition("\n")[2]
        if _no_image.search(result.stderr):
            raise ImageNotFound(f"creating container: {result.words}")
        kind = NameTaken if _name_taken.search(result.stderr) else RuntimeRefused
        raise kind(f"creating container: {result.words}", status=result.status)

    async def find(self, native_id: str) -> Json | None:
        """Inspect a container; None if podman does not know it."""
        result = await self._run("inspect", "--type", "container", native_id)
        if result.status != 0:
            if _no_container.search(result.stderr):
                return None
            raise RuntimeRefused(f"podman inspect: {result.words}", status=result.status)
        found: list[Json] = _read_json(result.stdout, "inspect")
        return found[0]

    async def make_folder(self, native_id: str, path: str) -> None:
        """Make a folder in a container that does not run, unless it has it already."""
        argv = [self.program, "cp", f"{native_id}:{path}/.", "-"]
        beginning = await peek_command(argv, self.environment, limit_s=_CALL_LIMIT_S)
        if beginning:
            return
        folder = ArchiveItem(path=path.lstrip("/"), kind=ItemKind.DIRECTORY, mode=0o755)
        result = await run_command(
            [self.program, "cp", "-", f"{native_id}:/"],
            self.environment,
            limit_s=_CALL_LIMIT_S,
            stdin=tar_of(Archive(path="/", items=(folder,))),
        )
        if result.status != 0:
            raise RuntimeRefused(f"podman cp: {result.words}", status=result.status)

    async def list_ids(self, labels: Mapping[str, str]) -> list[str]:
        """Find the containers, in any state, that have *labels* and a container id."""
        filters = [f"label={name}={value}" for name, value in labels.items()]
        arguments = [
            word for text in [*filters, f"label={ID_LABEL}"] for word in ("--filter", text)
        ]
        result = await self._run("ps", "--all", "--quiet", "--no-trunc", *arguments)
        if result.status != 0:
            raise RuntimeRefused(f"podman ps: {result.words}", status=result.status)
        return result.stdout.decode("ascii", "replace").split()

    async def kill(self, native_id: str, number: int) -> None:
        """Send a signal to a container's first process.

        Raises:
            RuntimeRefused: It was not sent, perhaps because the container has ended.
        """
        result = await self._run("kill", "--signal", str(number), native_id)
        if result.status != 0:
            raise RuntimeRefused(f"podman kill: {result.words}", status=result.status)

    async def wait(self, native_id: str) -> None:
        """Wait until a container has ended, or is gone."""
        result = await run_command(
            [self.program, "wait", native_id], self.environment, limit_s=None
        )
        if result.status != 0 and not _no_container.search(result.stderr):
            raise RuntimeRefused(f"podman wait: {result.words}", status=result.status)

    async def remove(self, name: str) -> None:
        """Remove a container, running or not; one that is gone is no error."""
        result = await run_command(
            [self.program, "rm", "--force", "--time", "0", "--volumes", name],
            self.environment,
            limit_s=_REMOVE_LIMIT_S,
        )
        if result.status != 0 and not _no_container.search(result.stderr):
            raise RuntimeRefused(f"podman rm: {result.words}", status=result.status)

    async def has_image(self, image: str) -> bool:
        """Say whether the image is in podman's store."""
        result = await self._run("image", "exists", "--", image)
        if result.status not in {0, 1}:
            raise RuntimeRefused(f"podman image exists: {result.words}", status=result.status)
        return result.status == 0

    async def pull(self, image: str, auth_file: str | None, on_event: OnEvent) -> CommandResult:
        """Fetch an image; what podman tells meanwhile is given on."""
        login = ["--authfile", auth_file] if auth_file else []
        argv = [self.program, "pull", *login, "--", image]
        async for line in follow_command(argv, self.environment):
            if isinstance(line, CommandResult):
                return line
            on_event(Event(kind=EventKind.PULL_PROGRESS, text=line))
        raise AssertionError("a followed command ends with its result")

    async def remove_files(self, folder: Path) -> None:
        """Remove files of users that exist only in containers without root."""
        result = await self._run("unshare", "rm", "-rf", "--", str(folder))
        if result.status != 0:
            raise RuntimeRefused(f"cannot remove {folder}: {result.words}", status=result.status)

    async def _run(self, *arguments: str) -> CommandResult:
        return await run_command(
            [self.program, *arguments], self.environment, limit_s=_CALL_LIMIT_S
        )


def _read_json(text: bytes, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnreadableAnswer(f"podman {what}: no JSON: {text[:200]!r}") from error
