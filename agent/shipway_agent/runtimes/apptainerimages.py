"""Apptainer's images that the agent fetched for its tasks, each a file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from shipway_agent.errors import ImageNotFound, PullFailed
from shipway_agent.runtimes.apptainerforms import Dialect, is_file
from shipway_agent.runtimes.commands import CommandResult, follow_command
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.imagefolder import ImageFolder
from shipway_agent.runtimes.imagenames import parse_image_name
from shipway_agent.runtimes.registryauth import hide_secrets
from shipway_agent.runtimes.spec import Event, EventKind, OnEvent, RegistryAuth

_fetched_schemes = ("docker://", "oras://", "library://", "shub://", "http://", "https://")


class ApptainerImages:
    """Images by where they come from."""

    def __init__(self, program: str, dialect: Dialect, folder: ImageFolder) -> None:
        self._program, self._dialect, self._folder = program, dialect, folder

    async def open(self) -> None:
        """Get ready."""
        await asyncio.to_thread(self._folder.open)

    def kept(self, image: str) -> str:
        """Return the file of a resolved image that was fetched, else the image; blocking."""
        if is_file(image):
            return image
        return str(self._folder.find(image) or image)

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
    ) -> None:
        """Fetch an image, even if it is here, and past the program's own cache, which nobody tidies.

        Args:
            image: Resolved.
            environment: For the program, with the credentials.
            on_event: Told what the program tells.
            auth: These, which nobody is to read.

        Raises:
            ImageNotFound: It does not exist or is hidden from us.
            PullFailed: It did not arrive.
        """
        async with self._folder.fetching(image) as target:
            on_event(Event(kind=EventKind.PULL_BEGAN, text=f"pulling {image}"))
            argv = [self._program, "pull", "--disable-cache", str(target), image]
            # Layers may be larger than a usual /tmp.
            places = {f"{self._dialect.prefix}_TMPDIR": str(target.parent)}
            async for line in follow_command(argv, {**environment, **places}):
                if not isinstance(line, CommandResult):
                    on_event(Event(kind=EventKind.PULL_PROGRESS, text=line))
                elif line.status != 0:
                    raise _error(image, line, auth)


def _error(
    image: str, result: CommandResult, auth: RegistryAuth | None
) -> ImageNotFound | PullFailed:
    fatal = re.findall(r"FATAL:\s*(.*)", result.stderr)
    words = str(fatal[-1]) if fatal else result.words
    if image.startswith("docker://"):
        return pull_error(parse_image_name(image.removeprefix("docker://")), words, auth)
    return PullFailed(f"error pulling image: {image}: {hide_secrets(words, auth)}")
