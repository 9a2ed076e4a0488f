"""Which sbatch options users may give."""

from __future__ import annotations

from collections.abc import Sequence


class ForbiddenOption(ValueError):
    """An option that the launcher sets itself."""


_FORBIDDEN = (
    "--ntasks-per-node=",
    "--gpus=",
    "-G",
    "--nodes=",
    "-N",
    "--ntasks=",
    "-n",
    "--chdir=",
    "-D",
    "--error=",
    "-e",
    "--output=",
    "-o",
    "--partition=",
    "-p",
    "--no-requeue",
    "--requeue",
)


def check_sbatch_arguments(arguments: Sequence[str]) -> None:
    """Refuse what would fight with the launcher; the launcher checks once more, and more.

    Raises:
        ForbiddenOption: The text names the option.
    """
    for argument in arguments:
        text = argument.strip()
        if any(ord(character) < 32 for character in text):
            raise ForbiddenOption(f"slurm option {text[:40]!r} has a control character in it")
        for option in _FORBIDDEN:
            if text.startswith(option):
                raise ForbiddenOption(f"slurm option {option} is not configurable")
        if text.startswith("--gres="):
            names = [part.partition(":")[0] for part in text.removeprefix("--gres=").split(",")]
            if "gpu" in names:
                raise ForbiddenOption(
                    "slurm option --gres may not be used to configure GPU resources"
                )
