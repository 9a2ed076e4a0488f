"""The Jupyter server of a notebook: its files and how it is started."""

from __future__ import annotations

from typing import Final

from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, TaskFile
from shipway_master.tasks.launch import RUN_DIR, AgentUser
from shipway_master.tasks.service import Equipment, Service

_DIR: Final = f"{RUN_DIR}/jupyter"
_FOLDERS: Final = (_DIR, f"{_DIR}/config", f"{_DIR}/data", f"{_DIR}/runtime")

# The token goes by the environment: whoever lists the node's processes sees their arguments.
_ENTRYPOINT: Final = r"""#!/bin/sh
# Starts JupyterLab for the owner of this task. Needs nothing of the image but JupyterLab.
set -e
PATH="$PATH:$PYTHONUSERBASE/bin"
command -v jupyter >/dev/null || {
    echo "a notebook needs JupyterLab, which this image does not have: install jupyterlab in it" >&2
    exit 127
}
exec jupyter lab --no-browser --allow-root \
    --ServerApp.ip=0.0.0.0 \
    --ServerApp.port="$NOTEBOOK_PORT" \
    --ServerApp.port_retries=0 \
    --ServerApp.base_url="/proxy/$DET_TASK_ID/" \
    --ServerApp.allow_remote_access=True \
    --ServerApp.root_dir=/ \
    --ServerApp.preferred_dir="$PWD"
"""


def equip_notebook(service: Service, user: AgentUser) -> Equipment:
    """Say how a notebook is started, and with which files."""
    entrypoint = f"{_DIR}/notebook-entrypoint.sh"
    folders = [
        TaskFile(path=path, type=DIRECTORY_TYPE, mode=0o700, uid=user.uid, gid=user.gid)
        for path in _FOLDERS
    ]
    script = TaskFile(
        path=entrypoint,
        type=FILE_TYPE,
        content=_ENTRYPOINT.encode(),
        mode=0o700,
        uid=user.uid,
        gid=user.gid,
    )
    return Equipment(
        argv=(entrypoint,),
        files=[*folders, script],
        port=service.port,
        variables={
            "NOTEBOOK_PORT": str(service.port),
            "DET_NOTEBOOK_TOKEN": service.secret,
            "JUPYTER_TOKEN": service.secret,
            "JUPYTER_CONFIG_DIR": f"{_DIR}/config",
            "JUPYTER_DATA_DIR": f"{_DIR}/data",
            "JUPYTER_RUNTIME_DIR": f"{_DIR}/runtime",
        },
    )
