"""Look at the folders and files of this machine that the settings name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shipway_common.files import find_existing, find_file_system
from shipway_common.findings import Finding, bad, good, warn
from shipway_launcher.config import Impersonation, LauncherSettings

_LOCAL_FILE_SYSTEMS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "f2fs"}


def check_folders(settings: LauncherSettings) -> Iterator[Finding]:
    """Look at what the launcher writes, then at what it is only told of; nothing is changed."""
    yield from _check_records(settings)
    root = settings.job_storage_root
    if not settings.ssh.is_used:
        if root != settings.records_dir:
            yield from _check_own("job_storage_root", root, is_for_jobs=True)
        if settings.impersonation is not Impersonation.NONE:
            yield from _check_passage(root)
        yield from _check_images(settings)
        yield from _check_files(settings)
    relay_dir = settings.relay_dir
    if relay_dir is not None:
        above = find_existing(relay_dir)
        if not os.access(above, os.W_OK | os.X_OK):
            yield bad("relay_dir", f"this user cannot write into {above}")
        else:
            yield good("relay_dir", f"{relay_dir} ({find_file_system(above)})")


def _check_records(settings: LauncherSettings) -> Iterator[Finding]:
    root = settings.records_dir
    is_for_jobs = root == settings.job_storage_root and not settings.ssh.is_used
    key = "job_storage_root" if is_for_jobs else "state_dir"
    yield from _check_own(key, root, is_for_jobs=is_for_jobs)


def _check_own(key: str, root: Path, *, is_for_jobs: bool) -> Iterator[Finding]:
    """Look at a folder that must be this user's own, whether it is there or will be made."""
    above = find_existing(root)
    if not os.access(above, os.W_OK | os.X_OK):
        yield bad(key, f"this user cannot write into {above}")
        return
    if os.path.exists(root):
        status = root.stat()
        if status.st_uid != os.geteuid():
            yield bad(key, f"{root} does not belong to this user")
        if stat.S_IMODE(status.st_mode) & 0o022:
            yield bad(key, f"others may write into {root}; chmod go-w {root}")
    kind = find_file_system(above)
    if is_for_jobs and kind in _LOCAL_FILE_SYSTEMS:
        yield warn(key, f"{root} is on {kind}; fine only if all compute nodes see this very folder")
    else:
        yield good(key, f"{root} ({kind})")


def _check_passage(root: Path) -> Iterator[Finding]:
    """Look whether the users of jobs can reach their folders; the launcher sees to *root* itself."""
    for folder in root.parents:
        if os.path.exists(folder) and not folder.stat().st_mode & stat.S_IXOTH:
            yield bad(
                "job_storage_root",
                f"other users cannot pass through {folder} to the folders of their jobs;"
                f" chmod o+x {folder}",
            )


def _check_images(settings: LauncherSettings) -> Iterator[Finding]:
    root = settings.image_root
    if root is None:
        return
    key = "singularity_image_root" if settings.singularity_image_root else "apptainer_image_root"
    if os.path.isdir(root) and os.access(root, os.R_OK | os.X_OK):
        yield good(key, str(root))
    else:
        yield warn(key, f"{root} is no folder that this user can read, here at least")


def _check_files(settings: LauncherSettings) -> Iterator[Finding]:
    for key, file in (
        ("slurm.conf_file", settings.slurm.conf_file),
        ("pbs.conf_file", settings.pbs.conf_file),
    ):
        if file is not None and not os.access(file, os.R_OK):
            yield bad(key, f"this user cannot read {file}, or it is not there")
