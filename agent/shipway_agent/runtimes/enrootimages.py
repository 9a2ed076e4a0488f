"""Where Enroot's containers come from: those a user made, and images in squashfs files."""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import ImageNotFound, SpecUnsupported
from shipway_agent.runtimes.commands import CommandResult, follow_command
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.enrootforms import container_name, credentials_file, import_uri
from shipway_agent.runtimes.imagenames import ImageName, parse_image_name
from shipway_agent.runtimes.spec import ContainerSpec, Event, EventKind, OnEvent, RegistryAuth

_SUFFIX = ".sqsh"
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
        self, program: str, environment: Mapping[str, str], *, folder: Path, image_root: Path | None
    ) -> None:
        self._program = program
        self._environment = environment
        self._folder = folder
        self._image_root = image_root
        self._locks: dict[str, asyncio.Lock] = {}

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
        image = _image_of(spec)
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
        kept = self._kept_place(image)
        return ImageFile(path=kept) if kept is not None and kept.is_file() else None

    async def fetch(
        self, spec: ContainerSpec, auth: RegistryAuth | None, on_event: OnEvent
    ) -> None:
        """Fetch an image from its registry, even if it is here.

        Raises:
            ImageNotFound: It does not exist or is hidden from us.
            PullFailed: It did not arrive.
        """
        name = reference_of(spec)
        place = self._place_of(name)
        async with self._locks.setdefault(str(name), asyncio.Lock()):
            on_event(Event(kind=EventKind.PULL_BEGAN, text=f"importing {name}"))
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            partial = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}{_SUFFIX}")
            try:
                await self._import(name, auth, partial, on_event)
                await asyncio.to_thread(partial.replace, place)
            finally:
                await asyncio.to_thread(partial.unlink, missing_ok=True)

    async def _import(
        self, name: ImageName, auth: RegistryAuth | None, target: Path, on_event: OnEvent
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="shipway-enroot-") as folder:
            environment = dict(self._environment)
            if auth is not None:
                credentials = Path(folder) / ".credentials"
                credentials.touch(mode=0o600)
                credentials.write_bytes(credentials_file(name, auth))
                environment["ENROOT_CONFIG_PATH"] = folder
            argv = [self._program, "import", "--output", str(target), "--", import_uri(name)]
            async for line in follow_command(argv, environment):
                if isinstance(line, CommandResult):
                    if line.status != 0:
                        raise pull_error(name, line.words, auth)
                else:
                    on_event(Event(kind=EventKind.PULL_PROGRESS, text=line))

    def _shared_places(self, image: str) -> list[Path]:
        if self._image_root is None or ".." in image.split("/"):
            return []
        names = (image, f"{image}{_SUFFIX}", f"{container_name(image)}{_SUFFIX}")
        return [self._image_root / name for name in names]

    def _kept_place(self, image: str) -> Path | None:
        try:
            return self._place_of(parse_image_name(image.removeprefix("docker://")))
        except SpecUnsupported:
            return None

    def _place_of(self, name: ImageName) -> Path:
        return self._folder / f"{container_name(str(name))}{_SUFFIX}"


def reference_of(spec: ContainerSpec) -> ImageName:
    """Read the image's name as that of an image in a registry.

    Raises:
        SpecUnsupported: It is none.
    """
    image = _image_of(spec)
    if image.startswith(_schemes[1:]):
        raise SpecUnsupported(f"image {image}: only images of a registry can be fetched")
    return parse_image_name(image.removeprefix(_schemes[0]).replace("#", "/", 1))


def _image_of(spec: ContainerSpec) -> str:
    if not spec.image:
        raise SpecUnsupported("the container names no image")
    return spec.image
