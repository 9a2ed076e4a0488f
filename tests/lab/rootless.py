"""Podman's service of a user without rights, who exists only for it, in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import processes_of, remove_folder
from tests.lab.images import image_tar
from tests.lab.podman import IMAGE
from tests.lab.podman import missing_programs as missing_of_podman
from tests.lab.processes import LabError, end, run, tails, wait_until

UID = 64321
PROGRAMS = ("newuidmap", "slirp4netns", "unshare", "setpriv")

_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
default_rootless_network_cmd = "slirp4netns"
"""

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/runroot"
"""

# The user and its further ids are known in a mount namespace of its own alone, where the device of
# its networks is open to it as on most machines.
_ENTER = """\
#!/bin/sh
set -e
mount --make-rprivate /
for name in passwd group subuid subgid; do mount --bind {folder}/etc/$name /etc/$name; done
[ ! -e /dev/net/tun ] || mount --bind {folder}/tun /dev/net/tun
mount --make-rshared /
exec setpriv --reuid {uid} --regid {uid} --clear-groups env -i PATH="$PATH:/usr/sbin:/sbin" \\
    HOME={folder}/home USER=lab XDG_RUNTIME_DIR={folder}/xdg TMPDIR={folder}/tmp \\
    CONTAINERS_CONF={folder}/containers.conf CONTAINERS_STORAGE_CONF={folder}/storage.conf \\
    PODMAN_IGNORE_CGROUPSV1_WARNING=1 "$@"
"""


def missing_programs() -> list[str]:
    """Return what such a podman needs and this machine lacks."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [
        *missing_of_podman(),
        *(name for name in PROGRAMS if shutil.which(name, path=path) is None),
    ]


class RootlessPodman:
    """The service, with the image `localhost/lab:bb` loaded."""

    image = IMAGE
    uid = UID

    def __init__(self, folder: Path) -> None:
        """Keep everything in *folder*, whose path must be short: it holds Unix sockets."""
        self.folder = folder
        self.socket = folder / "xdg/podman/podman.sock"
        self._service: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The service's address."""
        return f"unix://{self.socket}"

    def __enter__(self) -> RootlessPodman:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the containers and the service, and remove what they left."""
        if self._service is not None:
            self.run(["--remote", f"--url={self.url}", "rm", "--all", "--force", "--time=0"])
            end([self._service.pid])
            self._service.wait()
        end(processes_of(self.folder))  # such as the one that keeps the user's namespaces
        remove_folder(self.folder)

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGUMENTS` as the user."""
        return run([*self._within, "podman", *arguments], check=False, limit_s=60)

    @property
    def _within(self) -> list[str]:
        return ["unshare", "--mount", str(self.folder / "enter")]

    def _start(self) -> None:
        folder = self.folder
        for name in ("etc", "home", "xdg/podman", "graph", "runroot", "tmp"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, line in (("passwd", f"lab:x:{UID}:{UID}::{folder}/home:/bin/sh\n"),
                           ("group", f"lab:x:{UID}:\n")):  # fmt: skip
            (folder / "etc" / name).write_text(Path("/etc", name).read_text() + line)
        for name in ("subuid", "subgid"):
            (folder / "etc" / name).write_text("lab:300000:65536\n")
        os.mknod(folder / "tun", 0o666 | 0o020000, os.makedev(10, 200))
        (folder / "tun").chmod(0o666)
        (folder / "containers.conf").write_text(_CONTAINERS)
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder))
        (folder / "enter").write_text(_ENTER.format(folder=folder, uid=UID))
        (folder / "enter").chmod(0o755)
        (folder / "image.tar").write_bytes(image_tar())
        for name in ("home", "xdg", "xdg/podman", "graph", "runroot", "tmp"):
            os.chown(folder / name, UID, UID)
        done = self.run(["import", str(folder / "image.tar"), IMAGE])
        if done.returncode != 0:
            raise LabError(f"podman import: {done.stderr}")
        with (folder / "podman.log").open("ab") as output:
            self._service = subprocess.Popen(
                [*self._within, "podman", "system", "service", "--time=0", self.url],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self.socket.is_socket, "the socket is there", limit_s=60, logs=self._logs)

    def _logs(self) -> str:
        return tails([self.folder / "podman.log"], lines=40)
