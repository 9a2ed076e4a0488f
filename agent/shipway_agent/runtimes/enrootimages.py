"""Where Enroot's containers come from: those a user made, and images in squashfs files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import ImageNotFound, SpecUnsupported
from shipway_agent.runtimes.commands import CommandResult, follow_command
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.enrootforms import container_name, credentials_file, import_uri
from shipway_agent.runtimes.imagefolder import ImageFolder
from shipway_agent.runtimes.imagenames import ImageName, parse_image_name
from shipway_agent.runtimes.spec import ContainerSpec, Event, EventKind, OnEvent, RegistryAuth
from shipway_common.files import write_atomic

SUFFIX = ".sqsh"
_schemes = ("docker://", "dockerd://", "podman://")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeContainer:
    """A container that a user made of an image; all tasks with that image write into it."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """An image of which each task gets a container of its own."""

    path: Path


class EnrootImages:
    """Finds images and containers, and fetches images into a folder of ours."""

    def __init__(
        self,
        program: str,
        environment: Mapping[str, str],
        *,
        folder: ImageFolder,
        image_root: Path | None,
    ) -> None:
        self._program = program
        self._environment = environment
        self._folder = folder
        self._image_root = image_root

    def find(self, spec: ContainerSpec, data_path: Path) -> MadeContainer | ImageFile | None:
        """Find what a container is made of; blocking.

        Args:
            spec: Names the image: a file, or a reference; one that must be fetched anew is looked
                for only among those that were fetched.
            data_path: Where made containers are.

        Returns:
            None if it has to be fetched first.

        Raises:
            ImageNotFound: It is a file that is not there.
            SpecUnsupported: The container names none.
        """
        image = spec.require_image()
        if image.startswith("/"):
            if not os.path.isfile(image):
                raise ImageNotFound(f"image {image}: there is no such file on this host")
            return ImageFile(path=Path(image))
        if not spec.force_pull:
            for place in self._shared_places(image):
                if place.is_file():
                    return ImageFile(path=place)
            made = data_path / container_name(image)
            if made.is_dir():
                return MadeContainer(name=made.name, path=made)
        kept = self._find_kept(image)
        return ImageFile(path=kept) if kept is not None else None

    def using(self) -> AbstractAsyncContextManager[None]:
        """Keep fetched images as they are meanwhile."""
        return self._folder.using()

    async def fetch(
        self, spec: ContainerSpec, auth: RegistryAuth | None, on_event: OnEvent
    ) -> None:
        """Fetch an image from its registry, even if it is here.

        Raises:
            ImageNotFound: It does not exist or is hidden from us.
            PullFailed: It did not arrive.
        """
        name = reference_of(spec)
        async with self._folder.fetching(str(name)) as target:
            on_event(Event(kind=EventKind.PULL_BEGAN, text=f"importing {name}"))
            await self._import(name, auth, target, on_event)

    async def _import(
        self, name: ImageName, auth: RegistryAuth | None, target: Path, on_event: OnEvent
    ) -> None:
        # Layers may be larger than a usual /tmp.
        environment = {**self._environment, "ENROOT_TEMP_PATH": str(target.parent)}
        if auth is not None:
            credentials = target.with_name(".credentials")
            await asyncio.to_thread(write_atomic, credentials, credentials_file(name, auth))
            environment["ENROOT_CONFIG_PATH"] = str(target.parent)
        argv = [self._program, "import", "--output", str(target), "--", import_uri(name)]
        async for line in follow_command(argv, environment):
            if not isinstance(line, CommandResult):
                on_event(Event(kind=EventKind.PULL_PROGRESS, text=line))
            elif line.status != 0:
                raise pull_error(name, line.words, auth)

    def _shared_places(self, image: str) -> list[Path]:
        if self._image_root is None or ".." in image.split("/"):
            return []
        names = (image, f"{image}{SUFFIX}", f"{container_name(image)}{SUFFIX}")
        return [self._image_root / name for name in names]

    def _find_kept(self, image: str) -> Path | None:
        try:
            return self._folder.find(str(parse_image_name(image.removeprefix("docker://"))))
        except SpecUnsupported:
            return None


def reference_of(spec: ContainerSpec) -> ImageName:
    """Read the image's name as that of an image in a registry.

    Raises:
        SpecUnsupported: It is none.
    """
    image = spec.require_image()
    if image.startswith(_schemes[1:]):
        raise SpecUnsupported(f"image {image}: only images of a registry can be fetched")
    return parse_image_name(image.removeprefix(_schemes[0]).replace("#", "/", 1))
