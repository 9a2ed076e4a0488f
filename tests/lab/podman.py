"""Podman with a store and a configuration of the tests' own, and its API service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import remove_folder
from tests.lab.images import has_static_busybox, image_tar
from tests.lab.processes import LabError, end, run, tails, wait_until

IMAGE = "localhost/lab:bb"
PROGRAMS = ("podman", "runc", "conmon")

# Podman's own limits need a capability that not every machine gives to root, and crun refuses
# machines that have both kinds of cgroups mounted.
_CONTAINERS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/tmp"
[network]
network_config_dir = "{folder}/networks"
"""

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""


def missing_programs() -> list[str]:
    """Return what podman needs and this machine lacks."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if os.geteuid() != 0:
        missing.append("the rights of root")
    if not has_static_busybox():
        missing.append("a static busybox")
    return missing


class Podman:
    """Podman's service on a socket in one folder, with the image `localhost/lab:bb` loaded."""

    image = IMAGE

    def __init__(self, folder: Path) -> None:
        """Keep everything in *folder*, whose path must be short: it holds Unix sockets."""
        self.folder = folder
        self.socket = folder / "podman.sock"
        self._service: subprocess.Popen[bytes] | None = None
        # The service reads its list of registries once, so a port is kept for one.
        self._registry_port = socket.socket()
        self._registry_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._registry_port.bind(("127.0.0.1", 0))

    @property
    def registry_port(self) -> int:
        """The port of loopback on which a registry needs no TLS; bind it with reuse_port."""
        port: int = self._registry_port.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The service's address, as DOCKER_HOST, CONTAINER_HOST and aiodocker take it."""
        return f"unix://{self.socket}"

    @property
    def environment(self) -> dict[str, str]:
        """What the `podman` program needs in its environment to see this store."""
        return {
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(self.folder / "registries.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }

    def __enter__(self) -> Podman:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Load the image, start the service and wait for its answer."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the containers and the service, and remove what they left."""
        if (self.folder / "storage.conf").exists():
            self.run(["rm", "--all", "--force", "--time=0"], check=False, limit_s=60)
        if self._service is not None:
            end([self._service.pid])
            self._service.wait()
        self._registry_port.close()
        remove_folder(self.folder)

    def run(
        self, arguments: Sequence[str], *, limit_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGUMENTS` on this store."""
        return run(
            ["podman", *arguments], environment=self.environment, limit_s=limit_s, check=check
        )

    def halt(self) -> None:
        """Kill the service alone; containers do not hang on it."""
        assert self._service is not None
        self._service.kill()
        self._service.wait()

    def resume(self) -> None:
        """Start a service that was halted, and wait for its answer."""
        self._launch()

    def logs(self) -> str:
        """Return the tail of the service's log."""
        return tails([self.folder / "podman.log"], lines=40)

    def _start(self) -> None:
        for name in ("graph", "run", "tmp", "networks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "containers.conf").write_text(_CONTAINERS.format(folder=self.folder))
        (self.folder / "storage.conf").write_text(_STORAGE.format(folder=self.folder))
        registry = f'[[registry]]\nlocation = "127.0.0.1:{self.registry_port}"\ninsecure = true\n'
        (self.folder / "registries.conf").write_text(registry)
        archive = self.folder / "image.tar"
        archive.write_bytes(image_tar())
        self.run(["import", str(archive), IMAGE], limit_s=60)
        self._launch()

    def _launch(self) -> None:
        with (self.folder / "podman.log").open("ab") as output:
            self._service = subprocess.Popen(
                ["podman", "system", "service", "--time=0", self.url],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, "the podman service answers", limit_s=60, logs=self.logs)

    def _answers(self) -> bool:
        assert self._service is not None
        if self._service.poll() is not None:
            raise LabError(f"podman's service exited {self._service.returncode}\n{self.logs()}")
        if not self.socket.exists():
            return False
        done = run(["podman", "--remote", f"--url={self.url}", "version"], check=False)
        return done.returncode == 0


def _path() -> str:
    # conmon lies in a folder of its own on some systems
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/libexec/podman:/usr/lib/podman"
