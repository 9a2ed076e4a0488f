"""Move files as the user who runs this: the small program behind `SudoTransport`.

python -I -m shipway_launcher.transport.helper install|size|status|read|erase|remove PATH [OFFSET LIMIT]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from shipway_launcher.transport.tree import (
    erase_file,
    install_tree,
    read_part,
    remove_tree,
    size_of,
    status_of,
)
from shipway_launcher.transport.wire import unpack


def main(arguments: Sequence[str]) -> int:
    """Do one thing; answer on standard output."""
    try:
        match list(arguments):
            case ["install", path]:
                install_tree(Path(path), unpack(sys.stdin.buffer.read()))
            case ["size", path]:
                sys.stdout.write(json.dumps(size_of(Path(path))))
            case ["status", path]:
                found = status_of(Path(path))
                sys.stdout.write(json.dumps(found and (found.size, found.modified_at)))
            case ["erase", path]:
                erase_file(Path(path))
            case ["read", path, offset, limit]:
                sys.stdout.buffer.write(read_part(Path(path), int(offset), int(limit)))
            case ["remove", path]:
                remove_tree(Path(path))
            case _:
                sys.stderr.write(__doc__ or "")
                return 2
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
