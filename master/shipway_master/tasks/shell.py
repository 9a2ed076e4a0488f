"""The sshd of a shell: its files and how it is started."""

from __future__ import annotations

from typing import Final

from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, TaskFile
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.service import Equipment, Service
from shipway_master.tasks.ssh import SSH_DIR, SSHD_CONFIG

# A session gets the task's variables by options of the authorized key. sshd knows `\"` there and
# no other escape, so a value with a line end or with a backslash at its end cannot be said.
_ENTRYPOINT: Final = r"""#!/bin/sh
# Starts sshd for the owner of this task. Needs nothing of the image but sshd and a shell.
set -e
umask 077
cd "$(dirname "$0")"
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
sshd=$(command -v sshd) || {
    echo "a shell needs sshd, which is not in PATH ($PATH): install openssh-server in the image, or" \
        "on the node where there is no image" >&2
    exit 127
}
options=
if command -v awk >/dev/null; then
    options=$(awk 'BEGIN {
        for (name in ENVIRON) {
            value = ENVIRON[name]
            if (name !~ /^[A-Za-z_][A-Za-z0-9_]*$/ || value ~ /[\r\n]/ || value ~ /\\$/) continue
            if (name ~ /^(_|HOME|TERM|LANG|LC_.*|PWD|OLDPWD|SHLVL)$/) continue
            gsub(/"/, "\\\"", value)
            printf "%senvironment=\"%s=%s\"", separator, name, value
            separator = ","
        }
    }')
fi
read -r key <authorized_keys_unmodified
printf '%s %s\n' "$options" "$key" >authorized_keys
if [ "$(id -u)" = 0 ]; then
    mkdir -p /run/sshd
    chmod 0755 /run/sshd
fi
exec "$sshd" "$@"
"""


def equip_shell(service: Service, user: AgentUser) -> Equipment:
    """Say how a shell is started, and with which files."""
    entrypoint = f"{SSH_DIR}/shell-entrypoint.sh"
    texts = [
        (entrypoint, _ENTRYPOINT, 0o700),
        (f"{SSH_DIR}/sshd_config", SSHD_CONFIG, 0o644),
        (f"{SSH_DIR}/authorized_keys_unmodified", service.public_key, 0o644),
        (f"{SSH_DIR}/id_rsa", service.secret, 0o600),
        (f"{SSH_DIR}/id_rsa.pub", service.public_key, 0o600),
    ]
    files = [
        TaskFile(path=SSH_DIR, type=DIRECTORY_TYPE, mode=0o700, uid=user.uid, gid=user.gid),
        *(
            TaskFile(
                path=path,
                type=FILE_TYPE,
                content=text.encode(),
                mode=mode,
                uid=user.uid,
                gid=user.gid,
            )
            for path, text, mode in texts
        ),
    ]
    argv = (entrypoint, "-f", f"{SSH_DIR}/sshd_config", "-p", str(service.port), "-D", "-e")
    return Equipment(argv=argv, files=files, port=service.port)
