"""Apptainer's images that the agent fetched for its tasks, each a file."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Mapping
from pathlib import Path

from shipway_agent.errors import ImageNotFound, PullFailed
from shipway_agent.runtimes.apptainerforms import is_file
from shipway_agent.runtimes.commands import CommandResult, follow_command
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.imagenames import parse_image_name
from shipway_agent.runtimes.registryauth import hide_secrets
from shipway_agent.runtimes.spec import Event, EventKind, OnEvent, RegistryAuth

_fetched_schemes = ("docker://", "oras://", "library://", "shub://", "http://", "https://")


class ApptainerImages:
    """A folder of ours with image files, named after where they come from."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}

    def kept(self, image: str) -> str:
        """Return the file of a resolved image that was fetched, else the image; blocking."""
        if is_file(image):
            return image
        place = self._place(image)
        return str(place) if place.is_file() else image

    def can_fetch(self, image: str) -> bool:
        """Say whether a resolved image comes from somewhere else."""
        return image.startswith(_fetched_schemes)

    async def fetch(
        self,
        image: str,
        environment: Mapping[str, str],
        on_event: OnEvent,
        *,
        auth: RegistryAuth | None,
        anew: bool,
    ) -> None:
        """Fetch an image, even if it is here.

        Args:
            image: Resolved.
            environment: For the program, with the credentials.
            on_event: Told what the program tells.
            auth: These, which nobody is to read.
            anew: Use nothing that the program kept of an earlier time.

        Raises:
            ImageNotFound: It does not exist or is hidden from us.
            PullFailed: It did not arrive.
        """
        place = self._place(image)
        async with self._locks.setdefault(image, asyncio.Lock()):
            on_event(Event(kind=EventKind.PULL_BEGAN, text=f"pulling {image}"))
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            partial = place.with_name(f".{uuid.uuid4().hex}.sif")
            cache = ["--disable-cache"] if anew else []
            argv = [self._program, "pull", *cache, str(partial), image]
            try:
                async for line in follow_command(argv, environment):
                    if not isinstance(line, CommandResult):
                        on_event(Event(kind=EventKind.PULL_PROGRESS, text=line))
                    elif line.status != 0:
                        raise _error(image, line, auth)
                await asyncio.to_thread(partial.replace, place)
            finally:
                await asyncio.to_thread(partial.unlink, missing_ok=True)

    def _place(self, image: str) -> Path:
        name = re.sub("[/:]", "+", image)
        return self._folder / f"{name}.sif"


def _error(
    image: str, result: CommandResult, auth: RegistryAuth | None
) -> ImageNotFound | PullFailed:
    fatal = re.findall(r"FATAL:\s*(.*)", result.stderr)
    words = str(fatal[-1]) if fatal else result.words
    if image.startswith("docker://"):
        return pull_error(parse_image_name(image.removeprefix("docker://")), words, auth)
    return PullFailed(f"error pulling image: {image}: {hide_secrets(words, auth)}")
