"""Fetched images make room for others, in the order in which they were last used."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from shipway_agent.runtimes.imagefolder import ImageFolder

HOUR_S = 3600.0
IMAGE_BYTES = 64 << 10


async def fetch(images: ImageFolder, name: str, *, age_s: float = 0) -> Path:
    """Fetch an image that was last used some time ago."""
    async with images.fetching(name) as target:
        target.write_bytes(name.encode() * (IMAGE_BYTES // len(name)))
    place = images.find(name)
    assert place is not None
    os.utime(place, (time.time() - age_s,) * 2)
    return place


def image_folder(
    folder: Path, *, limit: int | None, used: Collection[Path] = (), layers: Path | None = None
) -> ImageFolder:
    """Return an open folder for so many images."""

    async def find_used() -> Collection[Path]:
        return used

    limit_bytes = None if limit is None else limit * IMAGE_BYTES
    images = ImageFolder(
        folder, ".img", limit_bytes=limit_bytes, find_used=find_used, layers=layers
    )
    images.open()
    return images


async def test_the_images_that_were_not_used_for_longest_go(tmp_path: Path) -> None:
    used: list[Path] = []
    images = image_folder(tmp_path, limit=3, used=used)
    older = await fetch(images, "older", age_s=3 * HOUR_S)
    used.append(older)  # a container runs from it
    await fetch(images, "old", age_s=2 * HOUR_S)
    await fetch(images, "newer", age_s=HOUR_S)
    await fetch(images, "new")
    assert [images.find(name) is not None for name in ("older", "old", "newer", "new")] == [
        True,
        False,
        True,
        True,
    ]


async def test_no_image_goes_that_is_just_about_to_be_used(tmp_path: Path) -> None:
    images = image_folder(tmp_path, limit=1)
    for name in ("first", "second", "third"):
        await fetch(images, name)
    assert all(images.find(name) for name in ("first", "second", "third"))


async def test_a_use_counts_as_young(tmp_path: Path) -> None:
    images = image_folder(tmp_path, limit=2)
    await fetch(images, "a", age_s=3 * HOUR_S)
    await fetch(images, "b", age_s=2 * HOUR_S)
    assert images.find("a") is not None
    await fetch(images, "c")
    assert images.find("b") is None
    assert images.find("a") is not None


async def test_layers_count_and_go_like_images(tmp_path: Path) -> None:
    layers = tmp_path / ".cache"
    images = image_folder(tmp_path, limit=2, layers=layers)
    layers.mkdir()
    layer = layers / "0123"
    layer.write_bytes(b"x" * IMAGE_BYTES)
    os.utime(layer, (time.time() - 3 * HOUR_S,) * 2)
    await fetch(images, "a", age_s=HOUR_S)
    await fetch(images, "b")
    assert not layer.exists()
    assert images.find("a") is not None


async def test_without_a_limit_half_of_the_disk_may_be_taken(small_disk: Path) -> None:
    images = image_folder(small_disk, limit=None)
    (small_disk / "ballast").unlink()
    for number in range(10):
        await fetch(images, f"image-{number}", age_s=HOUR_S * (20 - number))
    left = [number for number in range(10) if images.find(f"image-{number}")]
    assert left == list(range(2, 10))


async def test_what_a_killed_agent_was_fetching_goes_and_what_is_under_way_stays(
    tmp_path: Path,
) -> None:
    half = tmp_path / ".fetch-killed" / "layers"
    half.mkdir(parents=True)
    images = image_folder(tmp_path, limit=3)
    assert not half.exists()
    async with images.fetching("a") as target:
        image_folder(tmp_path, limit=3)  # as `check` opens it
        target.write_bytes(b"x")
    assert images.find("a") is not None


async def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    images = image_folder(tmp_path, limit=3)
    with pytest.raises(FileNotFoundError):
        async with images.fetching("a") as target:
            target.with_name("layer").write_bytes(b"x")
    assert os.listdir(tmp_path) == []


async def test_long_names_are_told_apart(tmp_path: Path) -> None:
    images = image_folder(tmp_path, limit=3)
    name = "docker://registry.example:5000/" + "x" * 250
    await fetch(images, f"{name}:1")
    assert images.find(f"{name}:1") is not None
    assert images.find(f"{name}:2") is None
