"""Shipway's own daemons, started as a user would start them: by their programs, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.lab.processes import LabError, end, free_ports, is_alive, tails, wait_until

PASSWORD = "lab-password-1"


def program(name: str) -> str:
    """Return a console script of the environment that runs the tests."""
    return str(Path(sys.executable).parent / name)


class Daemon:
    """One daemon; it can be stopped, killed and started again with the same arguments."""

    def __init__(
        self, name: str, argv: Sequence[str], *, folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Prepare to run *argv* in *folder*, where its output goes to `NAME.log`."""
        self.name = name
        self.log = folder / f"{name}.log"
        self.environment = dict(environment)
        self._argv, self._folder = tuple(argv), folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running daemon."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the daemon; its log goes on where it was."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self._folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self, *, grace_s: float = 60) -> None:
        """End the daemon with TERM and wait for it.

        Raises:
            LabError: It had to be killed.
        """
        if self._process is None:
            return
        was_running = self._process.poll() is None
        end([self._process.pid], grace_s=grace_s)
        status = self._process.wait()
        if was_running and status == -signal.SIGKILL:
            raise LabError(f"{self.name} did not end within {grace_s} s of TERM\n{self.tail()}")

    def wait_for_exit(self, *, limit_s: float = 60) -> int:
        """Wait until the daemon ends by itself, and return its exit status."""
        assert self._process is not None
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name} has not ended\n{self.tail()}") from error

    def start_again_until(
        self, is_up: Callable[[], object], what: str, *, limit_s: float = 60
    ) -> None:
        """Start the daemon whenever it has ended by itself, as systemd would, until *is_up*."""

        def look() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                Daemon.start(self)
            return bool(is_up())

        wait_until(look, f"{self.name}: {what}", limit_s=limit_s, logs=self.tail, interval_s=0.2)

    def kill(self) -> None:
        """End the daemon as a crash would: KILL, nothing said."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def tail(self, *, lines: int = 60) -> str:
        """Return the end of the daemon's log."""
        return tails([self.log], lines=lines)

    def wait_until(self, is_true: Any, what: str, *, limit_s: float = 60) -> None:
        """Wait until *is_true* is so; at once an error when the daemon ends before."""

        def check() -> bool:
            if self._process is not None and self._process.poll() is not None:
                status = self._process.returncode
                raise LabError(f"{self.name} exited {status}, before {what}\n{self.tail()}")
            return bool(is_true())

        wait_until(check, f"{self.name}: {what}", limit_s=limit_s, logs=self.tail)


class Api:
    """A caller of the master's REST API, or of the launcher's."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.token = token

    def send(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit_s: float = 60,
    ) -> tuple[int, Any]:
        """Send *body* (bytes as they are, anything else as JSON) and return status and answer.

        The answer is the decoded JSON, or the text where it is none.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", method=verb, data=data)
        if self.token is not None:
            request.add_header("Authorization", f"Bearer {self.token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=limit_s) as answer:
                return answer.status, _decode(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decode(error.read())

    def call(self, verb: str, path: str, body: Any = None, **options: Any) -> Any:
        """Send, and return the answer; a status other than 2xx raises LabError."""
        status, answer = self.send(verb, path, body, **options)
        if status >= 300:
            raise LabError(f"{verb} {self.url}{path} answered {status}: {answer}")
        return answer

    def is_there(self, path: str) -> bool:
        """Say whether *path* answers anything at all."""
        try:
            self.send("GET", path, limit_s=5)
        except OSError:
            return False
        return True

    def lines(self, path: str, *, limit_s: float = 60) -> Iterator[Any]:
        """Yield the results of a streaming call, until the master ends it."""
        request = urllib.request.Request(f"{self.url}{path}")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=limit_s) as answer:
            for line in answer:
                message = json.loads(line)
                if "error" in message:
                    raise LabError(f"{path}: {message['error']}")
                yield message["result"]


class Master(Daemon):
    """`shipway-master serve` with users `admin` and `determined`, both with `PASSWORD`."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Keep state, settings and log in *folder*; *config* is added to the settings file."""
        self.data = folder / "master"
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        path = folder / "master.yaml"
        super().__init__(
            "master",
            [
                *(program("shipway-master"), "serve", "--config", str(path)),
                *("--data", str(self.data), "--port", str(self.port)),
            ],
            folder=folder,
            environment=environment or {},
        )
        self._config = path
        self.rewrite_config(config or {})

    def rewrite_config(self, config: Mapping[str, Any]) -> None:
        """Replace the settings file; the next start reads it."""
        security = {"initial_user_password": PASSWORD, **config.get("security", {})}
        _write_yaml(self._config, {**config, "security": security})

    def launch(self) -> None:
        """Start the master and do not wait for anything."""
        super().start()

    def start(self) -> None:
        """Start the master and wait until it answers."""
        self.launch()
        self.wait_until(lambda: Api(self.url).is_there("/info"), "it answers")

    def login(self, user: str = "determined") -> Api:
        """Return an API caller that is logged in."""
        body = {"username": user, "password": PASSWORD, "isHashed": False}
        answer = Api(self.url).call("POST", "/api/v1/auth/login", body)
        return Api(self.url, token=answer["token"])


class Agent(Daemon):
    """`shipway-agent run` against a master."""

    def __init__(
        self,
        folder: Path,
        master: Master,
        *,
        agent_id: str,
        runtime: str = "sandbox",
        slots: int = 4,
        pool: str = "default",
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """Offer *slots* artificial slots in *pool*; *within* are words before the command."""
        self.agent_id = agent_id
        self.state = folder / f"{agent_id}-state"
        self._master = master
        settings = {
            "master_host": "127.0.0.1",
            "master_port": master.port,
            "agent_id": agent_id,
            "resource_pool": pool,
            **({} if slots else {"slot_type": "none"}),
            "artificial_slots": slots,
            "container_runtime": runtime,
            "agent_reconnect_backoff": 0.5,
            "state_dir": str(self.state),
            **(config or {}),
        }
        path = _write_yaml(folder / f"{agent_id}.yaml", settings)
        super().__init__(
            agent_id,
            [*within, program("shipway-agent"), "run", "--config", str(path)],
            folder=folder,
            environment=environment or {},
        )

    def launch(self) -> None:
        """Start the agent and do not wait for anything."""
        super().start()

    def start(self) -> None:
        """Start the agent and wait until the master knows it."""
        self.launch()
        api = self._master.login()

        def is_known() -> bool:
            agents = api.call("GET", "/api/v1/agents")["agents"]
            return any(agent["id"] == self.agent_id for agent in agents)

        self.wait_until(is_known, "the master lists it")


class Launcher(Daemon):
    """`shipway-launcher serve` for one Slurm cluster, its relay included."""

    def __init__(
        self,
        folder: Path,
        *,
        master_url: str,
        user: str,
        environment: Mapping[str, str],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Submit as *user*; *environment* says which Slurm (SLURM_CONF)."""
        self.port, self.relay_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.token_file = folder / "launcher.token"
        self.config = _write_yaml(
            folder / "launcher.yaml",
            {
                "host": "127.0.0.1",
                "port": self.port,
                "auth_file": str(self.token_file),
                "user_name": user,
                "job_storage_root": str(folder / "launcher"),
                "relay": {"enabled": True, "port": self.relay_port, "master": master_url},
                **(config or {}),
            },
        )
        super().__init__(
            "launcher",
            [program("shipway-launcher"), "serve", "--config", str(self.config)],
            folder=folder,
            environment=environment,
        )

    def start(self) -> None:
        """Start the launcher and wait until it answers."""
        super().start()
        self.wait_until(lambda: Api(self.url).is_there("/info/version/server"), "it answers")

    def api(self) -> Api:
        """Return a caller with the launcher's token."""
        return Api(self.url, token=self.token_file.read_text())


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process (SIGSTOP) for the time of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)


def _decode(body: bytes) -> Any:
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return path
