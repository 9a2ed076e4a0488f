"""The ssh of a task: a pair of keys, and the settings of its sshd and of its ssh."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shipway_master.tasks.files import RUN_DIR

SSH_DIR: Final = f"{RUN_DIR}/ssh"

# The folder is the task's own and nobody else's: who owns its parents does not matter. All ranks of
# a trial may log in at once.
SSHD_CONFIG: Final = f"""\
Port 2222
HostKey {SSH_DIR}/id_rsa
AuthorizedKeysFile {SSH_DIR}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment yes
AcceptEnv *
AllowTcpForwarding yes
X11Forwarding no
PrintMotd no
MaxStartups 512
Subsystem sftp internal-sftp
"""

SSH_CONFIG_FILE: Final = "/etc/ssh/ssh_config"
# The nodes of a trial have no host keys that anybody could know. What else a trial uses ssh for
# finds its user's own keys as ever.
SSH_CONFIG: Final = f"""\
Host *
    IdentityFile {SSH_DIR}/id_rsa
    IdentityFile ~/.ssh/id_ed25519
    IdentityFile ~/.ssh/id_ecdsa
    IdentityFile ~/.ssh/id_rsa
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    GlobalKnownHostsFile /dev/null
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Both the user's and the host's."""

    private: str = field(repr=False)
    """In OpenSSH's form."""
    public: str


def make_key_pair() -> KeyPair:
    """Make a new pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return KeyPair(private=private.decode(), public=f"{public.decode()}\n")
