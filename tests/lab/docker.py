"""A Docker engine of the tests' own: its socket, data and bridge are nobody else's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import remove_folder
from tests.lab.images import has_static_busybox, image_tar
from tests.lab.networks import Bridge
from tests.lab.processes import LabError, end, is_alive, pid_in, run, tails, wait_until

IMAGE = "lab:bb"
PROGRAMS = ("dockerd", "docker", "runc", "ip")


def missing_programs() -> list[str]:
    """Return what an engine needs and this machine lacks."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if os.geteuid() != 0:
        missing.append("the rights of root")
    if not has_static_busybox():
        missing.append("a static busybox")
    return missing


class Docker:
    """dockerd (which starts its own containerd) in one folder, with the image `lab:bb` loaded."""

    image = IMAGE

    def __init__(
        self, folder: Path, *, live_restore: bool = False, options: Sequence[str] = ()
    ) -> None:
        """Keep everything in *folder*, whose path must be short: it holds Unix sockets.

        Args:
            folder: Made when it is not there.
            live_restore: Whether containers outlive a restart of the engine.
            options: Further ones of dockerd.
        """
        self.folder = folder
        self._live_restore = live_restore
        self._further_options = options
        self.socket = folder / "docker.sock"
        self._bridge = Bridge()
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The engine's address, as DOCKER_HOST and aiodocker take it."""
        return f"unix://{self.socket}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client of this engine needs in its environment."""
        return {"DOCKER_HOST": self.url}

    def __enter__(self) -> Docker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the engine, wait for its answer and load the image."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) the engine alone and start it again, as its package's update would."""
        self.halt(kill=kill)
        self.resume()

    def halt(self, *, kill: bool = False) -> None:
        """End the engine, and only it: containers are left to it, or to live-restore."""
        assert self._daemon is not None
        if kill:
            self._daemon.kill()
        else:
            end([self._daemon.pid], grace_s=30)
        self._daemon.wait()
        self._end_containerd()

    def resume(self) -> None:
        """Start an engine that was halted, and wait for its answer."""
        self._launch()

    def list_tasks(self, *, ended: bool = False) -> list[str]:
        """List the containers of agents that run, and with *ended* the others, too."""
        chosen = ["--filter", "label=ai.determined.container.id", *(["--all"] if ended else [])]
        return self.run(["ps", "--quiet", *chosen]).stdout.split()

    def stop(self) -> None:
        """End the containers, the engine with its containerd, and remove what they left."""
        if self._daemon is not None and is_alive(self._daemon.pid):
            # Containers outlive an engine that is killed; so they go first.
            ids = self.run(["ps", "-aq"], check=False, limit_s=60).stdout.split()
            if ids:
                self.run(["rm", "-f", "-v", *ids], check=False, limit_s=60)
            end([self._daemon.pid], grace_s=20)
            self._daemon.wait()
        self._end_containerd()
        self._bridge.stop()
        remove_folder(self.folder)

    def run(
        self, arguments: Sequence[str], *, limit_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker ARGUMENTS` against this engine."""
        return run(
            ["docker", *arguments], environment=self.environment, limit_s=limit_s, check=check
        )

    def logs(self) -> str:
        """Return the tail of the engine's log."""
        return tails([self.folder / "dockerd.log"], lines=40)

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {"live-restore": True} if self._live_restore else {}
        (self.folder / "daemon.json").write_text(json.dumps(settings))
        self._bridge.start()
        self._launch()
        archive = self.folder / "image.tar"
        archive.write_bytes(image_tar())
        self.run(["import", str(archive), IMAGE], limit_s=60)

    def _launch(self) -> None:
        with (self.folder / "dockerd.log").open("ab") as output:
            self._daemon = subprocess.Popen(
                ["dockerd", *self._options()],
                env={**os.environ, "PATH": _path()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, "dockerd answers", limit_s=80, logs=self.logs)

    def _end_containerd(self) -> None:
        """End what an engine that was killed has left, in whose zombie the next one believes."""
        file = self.folder / "exec/containerd/containerd.pid"
        containerd = pid_in(file)
        if containerd is not None and is_alive(containerd):
            end([containerd])
        file.unlink(missing_ok=True)

    def _options(self) -> list[str]:
        return [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/dockerd.pid",
            f"--host={self.url}",
            f"--config-file={self.folder}/daemon.json",  # not the machine's
            # Should a containerd of the machine be used, then in a corner of our own.
            f"--containerd-namespace=lab-{os.getpid()}",
            f"--containerd-plugins-namespace=lab-plugins-{os.getpid()}",
            f"--bridge={self._bridge.name}",
            "--iptables=false",  # the machine's rules stay as they are
            "--ip-masq=false",
            *self._further_options,
        ]

    def _answers(self) -> bool:
        assert self._daemon is not None
        if self._daemon.poll() is not None:
            raise LabError(f"dockerd exited {self._daemon.returncode}\n{self.logs()}")
        return self.run(["version"], check=False).returncode == 0


def _path() -> str:
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"
