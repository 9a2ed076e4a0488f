"""The launcher's own folder on disk: one record and one manifest for each dispatch. Blocking."""

from __future__ import annotations

import logging
from pathlib import Path

from shipway_common.files import write_atomic
from shipway_launcher.dispatches.record import Dispatch, DispatchId, parse_record, render_record
from shipway_launcher.errors import SetupError
from shipway_launcher.transport.tree import make_own_folder, remove_tree

log = logging.getLogger(__name__)

_RECORD = "record.json"
_MANIFEST = "manifest.json"
_SUBMISSION_LOG = "submission.log"


class DispatchStore:
    """The folder `dispatches` in the launcher's folder of records, for its user alone."""

    def __init__(self, root: Path) -> None:
        """Use *root*, on this machine."""
        self._root = root
        self._folder = root / "dispatches"

    def open(self) -> None:
        """Make the folders that are missing.

        Raises:
            SetupError: They cannot be made, or are not safe.
        """
        try:
            make_own_folder(self._root)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as error:
            raise SetupError(f"state_dir or job_storage_root: {error}") from error

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
