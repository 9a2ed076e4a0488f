"""How an engine is reached: sockets, TLS, versions of its API; and one whose disk is full."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shipway_agent.errors import PullFailed, RuntimeUnavailable, UnreadableAnswer
from shipway_agent.runtimes.docker import open_runtime
from shipway_agent.runtimes.engine import connect, read_json_lines
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.spec import ContainerId, ContainerSpec, Event
from tests.agent.runtimes.certificate import make_certificate
from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.agent.runtimes.steps import run
from tests.lab import docker as docker_lab
from tests.lab.docker import Docker
from tests.lab.folders import new_folder
from tests.lab.processes import free_ports
from tests.lab.processes import run as run_command
from tests.lab.require import require

DISK_MIB = 24


class SmallDocker(Docker):
    """An engine with little disk, which is reached by TLS as well."""

    def __init__(self, folder: Path) -> None:
        self.certificates = folder / "certificates"
        make_certificate(self.certificates)
        (port,) = free_ports(1)
        self.tcp_url = f"tcp://127.0.0.1:{port}"
        names = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
        files = [f"--{option}={self.certificates}/{name}" for option, name in names.items()]
        super().__init__(folder, options=[f"--host={self.tcp_url}", "--tlsverify", *files])

    def start(self) -> None:
        """Start the engine on a disk of its own."""
        disk = self.folder / "data"
        disk.mkdir()
        run_command(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "lab", disk])
        super().start()


@pytest.fixture(scope="module")
def small() -> Iterator[SmallDocker]:
    """The engine."""
    require("Docker", docker_lab.missing_programs())
    with SmallDocker(new_folder("docker")) as engine:
        yield engine


def make_spec(**changes: Any) -> ContainerSpec:
    """Make a valid spec."""
    usual: dict[str, Any] = {"id": ContainerId("c-1"), "image": Docker.image, "argv": ("true",)}
    return ContainerSpec(**{**usual, **changes})


def options_of(folder: Path, url: str, certificates: Path) -> RuntimeOptions:
    """Return the options by which an engine is reached by TLS."""
    environ = {
        "PATH": "/bin",
        "HOME": str(folder),
        "DOCKER_HOST": url,
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(certificates),
    }
    return RuntimeOptions(state_dir=folder, environ=environ)


async def test_an_engine_is_reached_by_tls(small: SmallDocker, tmp_path: Path) -> None:
    runtime = await open_runtime(options_of(tmp_path, small.tcp_url, small.certificates))
    spec = make_spec(argv=("sh", "-c", "echo far; exit 3"))
    outcome = await run(runtime, spec)
    assert (outcome.stdout, outcome.exit.code) == (b"far\n", 3)
    (owned,) = await runtime.list_owned({})
    assert await runtime.processes(owned.handle) is None
    await runtime.remove(owned.handle)
    await runtime.aclose()


async def test_an_engine_that_is_not_trusted_is_not_used(
    small: SmallDocker, tmp_path: Path
) -> None:
    await asyncio.to_thread(make_certificate, tmp_path / "others")
    with pytest.raises(
        RuntimeUnavailable, match=r"no engine answers at tcp:.*certificate verify failed"
    ):
        await open_runtime(options_of(tmp_path, small.tcp_url, tmp_path / "others"))


async def test_an_image_that_the_disk_has_no_room_for_says_so(
    small: SmallDocker, tmp_path: Path
) -> None:
    runtime = await open_runtime(RuntimeOptions(state_dir=tmp_path, docker_host=small.url))
    async with serving(ImageRegistry(random_bytes=(DISK_MIB + 8) << 20)) as registry:
        events: list[Event] = []
        with pytest.raises(PullFailed, match="no space left on device"):
            await runtime.pull(make_spec(image=registry.image), events.append)
    outcome = await run(runtime, make_spec(argv=("echo", "room")))  # it goes on with what it has
    assert outcome.stdout == b"room\n"
    (owned,) = await runtime.list_owned({})
    await runtime.remove(owned.handle)
    await runtime.aclose()


@asynccontextmanager
async def stand_in(folder: Path, **answers: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve texts by the last word of a path; gives the address and what was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        text = answers.get(request.path.rpartition("/")[2])
        return web.Response(status=404 if text is None else 200, text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(folder / "engine.sock")).start()
        yield f"unix://{folder}/engine.sock", asked
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("newest", "oldest", "pinned", "spoken"),
    [
        ("1.41", "1.12", "", "v1.41"),
        ("1.52", "1.44", "", "v1.44"),
        ("1.60", "1.50", "", "v1.50"),
        ("1.52", "1.24", "1.40", "v1.40"),
        ("1.52", "1.24", "v1.40", "v1.40"),
    ],
)
async def test_the_newest_version_that_both_know_is_spoken(
    tmp_path: Path, newest: str, oldest: str, pinned: str, spoken: str
) -> None:
    version = f'{{"ApiVersion": "{newest}", "MinAPIVersion": "{oldest}", "Version": "9"}}'
    async with stand_in(tmp_path, version=version, info="{}") as (address, asked):
        engine = await connect(address, {"DOCKER_API_VERSION": pinned})
        assert await engine.call("GET", "info") == {}
        await engine.aclose()
    assert asked[-1] == f"/{spoken}/info"


@pytest.mark.parametrize("text", ["<html>", "{}", "[]", '{"ApiVersion": "new"}'])
async def test_what_is_no_engine_is_refused(tmp_path: Path, text: str) -> None:
    async with stand_in(tmp_path, version=text) as (address, _):
        with pytest.raises(
            RuntimeUnavailable, match=r"no engine answers at .*, but something else"
        ):
            await connect(address, {})


async def test_a_version_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="DOCKER_API_VERSION 'latest'"):
        await connect(f"unix://{tmp_path}/x", {"DOCKER_API_VERSION": "latest"})


async def test_a_stream_of_long_lines_and_odd_pieces_is_read(tmp_path: Path) -> None:
    version = '{"ApiVersion": "1.41", "MinAPIVersion": "1.12"}'
    long = "x" * 3_000_000
    good = f'{{"a": "{long}"}}\r\n\n  {{"b": 1}}\n{{"c": null}}'
    async with stand_in(tmp_path, version=version, good=good, bad='{"a": 1}\n[2]\n') as (url, _):
        engine = await connect(url, {})
        async with engine.stream("GET", "good") as response:
            read = [message async for message in read_json_lines(response)]
        assert read == [{"a": long}, {"b": 1}, {"c": None}]
        with pytest.raises(UnreadableAnswer, match=r"\[2\]"):
            async with engine.stream("GET", "bad") as response:
                assert [message async for message in read_json_lines(response)]
        await engine.aclose()


async def test_a_stale_socket_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale.sock"))
    with pytest.raises(RuntimeUnavailable, match="nobody listens there; start the engine"):
        await connect(f"unix://{tmp_path}/stale.sock", {})
