"""What a site has set up that only sbatch does."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"^(\w+)\s*=\s?(.*?)\s*$", re.MULTILINE)
_NOTHING = {"", "(null)", "(null type)", "none"}


def parse_config(stdout: str) -> dict[str, str]:
    """Read the answer to `commands.show_config`; what is not set is left out."""
    return {name: value for name, value in _LINE.findall(stdout) if value.lower() not in _NOTHING}


def why_sbatch(config: dict[str, str]) -> str | None:
    """Say which part of a site's configuration jobs would miss without sbatch; None: none.

    sbatch runs filters and plugins on this side; libslurm alone does not.
    """
    if filters := config.get("CliFilterPlugins"):
        return f"the site has CliFilterPlugins={filters}, which only sbatch runs"
    if "oomkillstep" in config.get("TaskPluginParam", "").lower():
        return (
            "the site has TaskPluginParam=OOMKillStep, which pyslurm would switch off for its jobs"
        )
    if "disable_slurm_hydra_bootstrap" in config.get("MpiParams", "").lower():
        return "the site has MpiParams=disable_slurm_hydra_bootstrap, which sbatch heeds for mpirun"
    plugins = Path(
        config.get("PlugStackConfig")
        or Path(config.get("SLURM_CONF", "/etc/slurm/slurm.conf")).with_name("plugstack.conf")
    )
    try:
        lines = plugins.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{plugins} cannot be read ({error.strerror}); it may name plugins of sbatch"
    if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
        return f"{plugins} names plugins, which only sbatch runs"
    return None
