"""How a TensorBoard is started: its variables, its files, and the script that runs it.

Facts: task-environment.md 3.4, 4.3, 6.7.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, RUN_DIR, TaskFile
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.model import TaskConfig
from shipway_master.tasks.service import Equipment, Service
from shipway_master.tensorboards.board import Board

_DIR: Final = f"{RUN_DIR}/tensorboard"

# Folders are read where they are. What is in a bucket is fetched by the harness, again and again.
_ENTRYPOINT: Final = r"""#!/bin/sh
# Starts TensorBoard over the files of experiments and trials.
set -e
python=${DET_PYTHON_EXECUTABLE:-python3}
PATH="$PATH:$PYTHONUSERBASE/bin"
storage=$1
where=$2
shift 2
command -v tensorboard >/dev/null || {
    echo "a TensorBoard needs the program tensorboard, which is not in PATH ($PATH): install the" \
        "Python package tensorboard in the image, or on the node where there is no image" >&2
    exit 127
}
if [ ! -e "$storage" ]; then
    exec tensorboard --bind_all --port="$TENSORBOARD_PORT" --path_prefix="/proxy/$DET_TASK_ID" \
        --logdir_spec="$where" "$@"
fi
"$python" -c 'import determined' || {
    echo "metrics in a bucket are fetched with the Python package determined, which $python does" \
        "not have here" >&2
    exit 127
}
# The program may be another Python's.
version=$("$python" -c 'from importlib.metadata import version as v; print(v("tensorboard"))' \
    2>/dev/null) || version=$(tensorboard --version 2>/dev/null | tail -n 1)
exec "$python" -m determined.exec.tensorboard "$version" "$storage" "$where" "$@"
"""


def equip_tensorboard(
    board: Board, service: Service, user: AgentUser, config: TaskConfig
) -> Equipment:
    """Say how a TensorBoard is started, and with which files."""
    make_file = partial(TaskFile, uid=user.uid, gid=user.gid)
    entrypoint, storage = f"{_DIR}/tensorboard-entrypoint.sh", f"{_DIR}/storage_config.json"
    files = [
        make_file(path=_DIR, type=DIRECTORY_TYPE, mode=0o700),
        make_file(path=entrypoint, type=FILE_TYPE, content=_ENTRYPOINT.encode(), mode=0o700),
    ]
    if board.storage:
        content = json.dumps(board.storage).encode()
        files.append(make_file(path=storage, type=FILE_TYPE, content=content, mode=0o600))
        where = ",".join(board.folders.values())
    else:
        where = ",".join(f"{name}:{folder}" for name, folder in board.folders.items())
    return Equipment(
        argv=(entrypoint, storage, where, *(config.tensorboard_args or ())),
        files=files,
        port=service.port,
        variables={
            "TENSORBOARD_PORT": str(service.port),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **({"DET_DEBUG": "true"} if config.debug else {}),
            **_name_credentials(board.storage),
        },
    )


def _name_credentials(storage: Mapping[str, Any]) -> dict[str, str]:
    """The variables by which clients of S3 find the bucket and get in."""
    if storage.get("type") != "s3":
        return {}
    url = storage.get("endpoint_url") or ""
    parts = urlsplit(url)
    variables = {
        "AWS_BUCKET": storage["bucket"],
        "AWS_ACCESS_KEY_ID": storage.get("access_key"),
        "AWS_SECRET_ACCESS_KEY": storage.get("secret_key"),
        "DET_S3_ENDPOINT_URL": url,
        "S3_ENDPOINT": parts.netloc,
        "S3_USE_HTTPS": "0" if parts.scheme == "http" else "1",
    }
    return {name: value for name, value in variables.items() if value}
