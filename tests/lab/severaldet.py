"""Run by the stock client's own Python: several `det` commands in one process, which saves the start.

The first argument is a JSON list of argument lists; a JSON list of [status, output] goes to stdout.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any


def main() -> None:
    """Run them one after the other, whatever becomes of each."""
    det: Any = __import__("determined.cli.cli", fromlist=["main"]).main
    results: list[tuple[int, str]] = []
    for arguments in json.loads(sys.argv[1]):
        output, status = io.StringIO(), 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                det(arguments)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(bool(end.code))
        results.append((status, output.getvalue()))
    json.dump(results, sys.stdout)


main()
