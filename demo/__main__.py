"""Command line of the demo; exit status 0 only when everything was seen to happen."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import click

from demo.api import ApiError
from demo.parts import PartFailed
from demo.screen import Screen
from demo.slurm import SlurmMissing, SlurmSite, find_site
from demo.story import Story


async def find_wanted_site(slurm: bool | None) -> SlurmSite | None:
    """Find the cluster; without one that is an error only for who asked for Slurm."""
    if slurm is False:
        return None
    try:
        return await find_site()
    except SlurmMissing:
        if slurm:
            raise
        return None


async def run(folder: Path, slurm: bool | None, limit_s: float) -> int:
    screen = Screen()
    try:
        async with asyncio.timeout(limit_s):
            site = await find_wanted_site(slurm)
            return 0 if await Story(folder, screen, site).tell() else 1
    except TimeoutError:
        screen.problem(f"not done after {limit_s:g} s; the logs of the parts are in {folder}")
    except (ApiError, PartFailed, SlurmMissing, aiohttp.ClientError, OSError) as error:
        screen.problem(f"{error}\nThe logs of the parts are in {folder}")
    return 1


@click.command()
@click.option(
    "--slurm/--no-slurm",
    default=None,
    help="Run the task as a Slurm job as well; by default where sinfo answers.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="State and logs; emptied at the start. With Slurm, it must be shared with the nodes.",
)
@click.option(
    "--limit-s", type=float, default=180, show_default=True, help="Give up after so many seconds."
)
def main(slurm: bool | None, folder: Path, limit_s: float) -> None:
    """Run the main job of Shipway on this machine and show what happens."""
    sys.exit(asyncio.run(run(folder.resolve(), slurm, limit_s)))


if __name__ == "__main__":
    main()
