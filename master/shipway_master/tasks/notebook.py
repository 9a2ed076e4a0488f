"""The Jupyter server of a notebook: its files and how it is started."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, RUN_DIR, TaskFile
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.model import TaskConfig
from shipway_master.tasks.service import Equipment, Service

_DIR: Final = f"{RUN_DIR}/jupyter"
_FOLDERS: Final = (_DIR, f"{_DIR}/config", f"{_DIR}/data", f"{_DIR}/runtime")
_REPORTER: Final = Path(__file__).with_name("idlereporter.py").read_bytes()
_REPORT_EVERY_S: Final = 30.0

# The token goes by the environment: whoever lists the node's processes sees their arguments.
_ENTRYPOINT: Final = r"""#!/bin/sh
# Starts JupyterLab for the owner of this task. Needs nothing of the image but JupyterLab.
set -e
PATH="$PATH:$PYTHONUSERBASE/bin"
command -v jupyter >/dev/null || {
    echo "a notebook needs JupyterLab, and there is no jupyter in PATH ($PATH): install jupyterlab" \
        "in the image, or on the node where there is no image" >&2
    exit 127
}
if [ -n "$NOTEBOOK_REPORT_EVERY_S" ]; then
    python="${DET_PYTHON_EXECUTABLE:-python3}"
    if command -v "$python" >/dev/null; then
        "$python" "$(dirname "$0")/idlereporter.py" &
    else
        echo "there is no $python: only its pages in use keep this notebook from being ended" >&2
    fi
fi
exec jupyter lab --no-browser --allow-root \
    --ServerApp.ip=0.0.0.0 \
    --ServerApp.port="$NOTEBOOK_PORT" \
    --ServerApp.port_retries=0 \
    --ServerApp.base_url="/proxy/$DET_TASK_ID/" \
    --ServerApp.allow_remote_access=True \
    --ServerApp.root_dir=/ \
    --ServerApp.preferred_dir="$PWD"
"""


def equip_notebook(service: Service, user: AgentUser, config: TaskConfig) -> Equipment:
    """Say how a notebook is started, and with which files."""
    entrypoint = f"{_DIR}/notebook-entrypoint.sh"
    folders = [
        TaskFile(path=path, type=DIRECTORY_TYPE, mode=0o700, uid=user.uid, gid=user.gid)
        for path in _FOLDERS
    ]
    programs = [
        TaskFile(path=path, type=FILE_TYPE, content=content, mode=0o700, uid=user.uid, gid=user.gid)
        for path, content in (
            (entrypoint, _ENTRYPOINT.encode()),
            (f"{_DIR}/idlereporter.py", _REPORTER),
        )
    ]
    return Equipment(
        argv=(entrypoint,),
        files=[*folders, *programs],
        port=service.port,
        variables={
            "NOTEBOOK_PORT": str(service.port),
            "NOTEBOOK_IDLE_TYPE": config.notebook_idle_type or "kernels_or_terminals",
            "NOTEBOOK_REPORT_EVERY_S": f"{choose_report_interval_s(config.idle_timeout):g}"
            if config.idle_timeout
            else "",
            "DET_NOTEBOOK_TOKEN": service.secret,
            "JUPYTER_TOKEN": service.secret,
            "JUPYTER_CONFIG_DIR": f"{_DIR}/config",
            "JUPYTER_DATA_DIR": f"{_DIR}/data",
            "JUPYTER_RUNTIME_DIR": f"{_DIR}/runtime",
        },
    )


def choose_report_interval_s(idle_timeout_s: float) -> float:
    """Say how often a notebook reports whether it is used, so that one report may get lost."""
    return min(_REPORT_EVERY_S, idle_timeout_s / 3)
