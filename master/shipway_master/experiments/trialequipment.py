"""How a trial is started: its variables, its files, and the script that runs the harness.

Facts: task-environment.md 3.4, 4.3, 6.4, 6.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from shipway_master.experiments.records import TrialRecord
from shipway_master.experiments.trialports import name_ports
from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, RUN_DIR, TaskFile
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.service import Equipment
from shipway_master.tasks.ssh import (
    SSH_CONFIG,
    SSH_CONFIG_FILE,
    SSH_DIR,
    SSHD_CONFIG,
    KeyPair,
)

_TRAIN_DIR: Final = f"{RUN_DIR}/train"
_FOLDERS: Final = (_TRAIN_DIR, f"{_TRAIN_DIR}/model", f"{_TRAIN_DIR}/logs", SSH_DIR)

# Each start of Python costs up to a second, so all steps are one where nothing comes between. The
# meeting of the ranks is the last step: they begin to train together.
_ENTRYPOINT: Final = r"""#!/bin/sh
# Starts the training of this trial with the harness, the Python package `determined`.
set -e
python=${DET_PYTHON_EXECUTABLE:-python3}
PATH="$PYTHONUSERBASE/bin:$PATH"
[ "$HOME" != / ] || export HOME="$PWD"
for stream in 1:stdout 2:stderr; do
    ln -sf "/proc/$$/fd/${stream%%:*}" "/run/determined/train/logs/${stream#*:}.log"
done
command -v "$python" >/dev/null || {
    echo "a trial needs Python, and there is no $python in PATH ($PATH)" >&2
    exit 127
}
prepare() {
    "$python" /run/determined/train/prepare.py "$@"
}
if [ -n "$SHIPWAY_HAS_STARTUP_HOOK" ]; then
    prepare --download_context_directory --resources --proxy
    set -x
    . ./startup-hook.sh
    { set +x; } 2>/dev/null
    prepare --rendezvous
else
    prepare --download_context_directory --resources --proxy --rendezvous
fi
met=
read -r met </run/determined/info/rendezvous.json || :
case $met in
*'"container_addrs": ["'*'", "'*'"]'*)  # several nodes, that horovod and deepspeed reach by ssh
    [ "$(id -u)" != 0 ] || mkdir -p -m 0755 /run/sshd 2>/dev/null || :  # root's sshd wants it
    is_trials() {
        while read -r key value; do
            [ "$key $value" != "IdentityFile /run/determined/ssh/id_rsa" ] || return 0
        done
        return 1
    }
    case $met in *'"container_rank": 0,'*)
        { is_trials </etc/ssh/ssh_config; } 2>/dev/null ||
            echo "/etc/ssh/ssh_config is not the trial's in this container, as where a bind mount" \
                "covers it: horovod and deepspeed may not reach the other nodes" >&2
    esac
esac
exec "$python" -m determined.exec.launch
"""

# The harness repeats a request that finds no master, but no POST whose answer is lost: a restart of
# the master at that moment, which lasts long where the ranks meet, would cost the trial one of its own.
_PREPARE: Final = """\
import importlib.util
import os
import runpy
import sys
import time

if importlib.util.find_spec("determined") is None:
    sys.stderr.write(
        f"a trial needs the Python package determined, which {sys.executable} does not have here\\n"
    )
    for folder in os.environ.get("PATH", "").split(":"):
        is_ours = folder == os.environ.get("PYTHONUSERBASE", "") + "/bin"
        if folder and not is_ours and not os.path.isdir(folder):
            sys.stderr.write(f"there is no folder {folder} here, which PATH names\\n")
    sys.exit(127)
for delay_s in (1, 2, 4, 8, None):
    try:
        runpy.run_module("determined.exec.prep_container", run_name="__main__", alter_sys=True)
        break
    except Exception as error:
        if delay_s is None or type(error).__name__ != "MasterNotFoundException":
            raise
        sys.stderr.write(f"the master went away, and is asked again: {error}\\n")
        time.sleep(delay_s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStart:
    """What one run of a trial begins with."""

    trial: TrialRecord
    config: Mapping[str, Any] = field(repr=False)
    """The experiment's, in full."""
    keys: KeyPair
    has_startup_hook: bool
    checkpoint: str | None
    """UUID of the checkpoint that it goes on from."""
    steps_completed: int


def equip_trial(start: TrialStart, user: AgentUser) -> Equipment:
    """Say how a run of a trial is started, and with which files."""
    entrypoint = f"{_TRAIN_DIR}/entrypoint.sh"
    texts = [
        (entrypoint, _ENTRYPOINT, 0o744),
        (f"{_TRAIN_DIR}/prepare.py", _PREPARE, 0o644),
        (f"{SSH_DIR}/sshd_config", SSHD_CONFIG, 0o600),
        (f"{SSH_DIR}/authorized_keys", start.keys.public, 0o600),
        (f"{SSH_DIR}/id_rsa", start.keys.private, 0o600),
        (f"{SSH_DIR}/id_rsa.pub", start.keys.public, 0o600),
    ]
    make_file = partial(TaskFile, uid=user.uid, gid=user.gid)
    folders = [make_file(path=path, type=DIRECTORY_TYPE, mode=0o700) for path in _FOLDERS]
    files = [
        make_file(path=path, type=FILE_TYPE, content=text.encode(), mode=mode)
        for path, text, mode in texts
    ]
    ssh_config = TaskFile(
        path=SSH_CONFIG_FILE, type=FILE_TYPE, content=SSH_CONFIG.encode(), mode=0o644
    )
    trial = start.trial
    return Equipment(
        argv=(entrypoint,),
        files=[*folders, *files, ssh_config],
        label=f"exp-{trial.experiment_id}-trial-{trial.id}-attempt-{trial.run}",
        variables=_render_variables(start),
    )


def _render_variables(start: TrialStart) -> dict[str, str]:
    trial = start.trial
    variables = {
        "DET_EXPERIMENT_ID": str(trial.experiment_id),
        "DET_TRIAL_ID": str(trial.id),
        "DET_TRIAL_RUN_ID": str(trial.run),
        "DET_TRIAL_SEED": str(trial.seed),
        "DET_EXPERIMENT_CONFIG": json.dumps(start.config, separators=(",", ":")),
        "DET_HPARAMS": json.dumps(trial.hparams, separators=(",", ":")),
        "DET_STEPS_COMPLETED": str(start.steps_completed),
        **name_ports(trial.ports),
    }
    if start.checkpoint is not None:
        variables["DET_LATEST_CHECKPOINT"] = start.checkpoint
    if start.config["profiling"]["enabled"]:
        variables["SHIPWAY_PROFILE"] = "true"  # the agent's word for it
    if start.has_startup_hook:
        variables["SHIPWAY_HAS_STARTUP_HOOK"] = "1"
    return variables
