"""The launcher's own folder on disk: one record and one manifest for each dispatch. Blocking."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_launcher.dispatches.files import jobs_root
from shipway_launcher.dispatches.record import Dispatch, DispatchId, parse_record, render_record
from shipway_launcher.errors import SetupError
from shipway_launcher.transport.tree import remove_tree

log = logging.getLogger(__name__)

_RECORD = "record.json"
_MANIFEST = "manifest.json"
_SUBMISSION_LOG = "submission.log"


class DispatchStore:
    """The folder `dispatches` in job_storage_root, for the launcher's user alone."""

    def __init__(self, root: Path) -> None:
        """Use the job_storage_root *root*."""
        self._root = root
        self._folder = root / "dispatches"

    def open(self, *, is_shared: bool) -> None:
        """Make the folders that are missing.

        Args:
            is_shared: Whether jobs of several users put their folders below this root.

        Raises:
            SetupError: They cannot be made, or are not safe.
        """
        try:
            if not self._root.exists():
                self._root.mkdir(parents=True)
                self._root.chmod(0o755)
            _check_folder(self._root, is_shared=is_shared)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._folder.chmod(0o700)
            jobs = jobs_root(self._root)
            jobs.mkdir(parents=True, exist_ok=True)
            jobs.parent.chmod(0o755)
            jobs.chmod(0o1777 if is_shared else 0o755)
        except OSError as error:
            raise SetupError(f"job_storage_root: {error}") from error

    def load_all(self) -> list[Dispatch]:
        """Read all records; one that cannot be read is left alone and reported."""
        found: list[Dispatch] = []
        for path in sorted(self._folder.glob(f"*/{_RECORD}")):
            try:
                found.append(parse_record(path.read_bytes()))
            except (OSError, ValueError):
                log.exception(
                    "a record cannot be read; its job, if any, is not watched",
                    extra={"file": str(path)},
                )
        return found

    def add(self, dispatch: Dispatch, manifest: bytes) -> None:
        """Write the record and the manifest of a new dispatch."""
        folder = self._folder / dispatch.id
        folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(folder / _MANIFEST, manifest)
        self.save(dispatch)

    def save(self, dispatch: Dispatch) -> None:
        """Replace the record of a dispatch."""
        write_atomic(self._folder / dispatch.id / _RECORD, render_record(dispatch))

    def load_manifest(self, dispatch_id: DispatchId) -> bytes:
        """Return what `add` was given."""
        return (self._folder / dispatch_id / _MANIFEST).read_bytes()

    def save_submission_log(self, dispatch_id: DispatchId, text: str) -> None:
        """Keep what the submission said."""
        data = text.encode("utf-8", "replace")
        write_atomic(self._folder / dispatch_id / _SUBMISSION_LOG, data)

    def submission_log(self, dispatch_id: DispatchId) -> Path:
        """Return the file with what the submission said; there is none if it said nothing."""
        return self._folder / dispatch_id / _SUBMISSION_LOG

    def remove(self, dispatch_id: DispatchId) -> None:
        """Remove all that is kept of a dispatch."""
        remove_tree(self._folder / dispatch_id)


def _check_folder(folder: Path, *, is_shared: bool) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise SetupError(f"job_storage_root: {folder} does not belong to the launcher's user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise SetupError(f"job_storage_root: others may write into {folder}; chmod go-w {folder}")
    if is_shared and not status.st_mode & 0o001:
        raise SetupError(
            f"job_storage_root: the jobs' users cannot enter {folder}; chmod o+x {folder}"
        )
