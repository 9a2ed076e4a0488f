"""Specs in the words of engines, and their answers in ours."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_agent.errors import UnreadableAnswer
from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame
from shipway_agent.runtimes.dockerforms import addresses_of, create_body, exit_of, state_of
from shipway_agent.runtimes.dockerlogs import LineMender
from shipway_agent.runtimes.engineinfo import EngineInfo
from shipway_agent.runtimes.podmanlog import parse_lines
from shipway_agent.runtimes.spec import (
    ContainerId,
    ContainerSpec,
    ContainerState,
    Device,
    Mount,
)

DOCKER = EngineInfo(has_init=True, nvidia_by="request", cdi_folders=(), is_rootless=False)
A100 = "GPU-11111111-2222-3333-4444-555555555555"


def make_spec(**changes: Any) -> ContainerSpec:
    """Make a valid spec."""
    usual: dict[str, Any] = {"id": ContainerId("c-1"), "image": "img", "argv": ("prog", "arg")}
    return ContainerSpec(**{**usual, **changes})


def test_docker_gets_all_that_the_spec_says() -> None:
    spec = make_spec(
        environment={"A": "b=c", "NVIDIA_VISIBLE_DEVICES": "all"},
        work_dir="/w",
        user="1000:1000",
        mounts=(Mount(source="/s", target="/t", read_only=True, propagation="rshared"),),
        ports=(1734,),
        publish_all_ports=True,
        network_mode="bridge",
        shm_size_bytes=4 << 30,
        devices=(Device(host="/dev/infiniband", container="/dev/ib"),),
        add_capabilities=("SYS_PTRACE",),
        drop_capabilities=("MKNOD",),
        labels={"ai.determined.container.agent": "a"},
    )
    body = create_body(spec, DOCKER)
    host = body["HostConfig"]
    assert body["Env"] == ["A=b=c", "NVIDIA_VISIBLE_DEVICES=void"]
    assert (body["Cmd"], body["Entrypoint"]) == (["prog", "arg"], None)
    assert (body["WorkingDir"], body["User"]) == ("/w", "1000:1000")
    assert body["ExposedPorts"] == {"1734/tcp": {}}
    assert body["Labels"]["ai.determined.container.id"] == "c-1"
    assert host["NetworkMode"] == "bridge"
    assert host["PublishAllPorts"] is True
    assert host["ShmSize"] == 4 << 30
    assert (host["CapAdd"], host["CapDrop"]) == (["SYS_PTRACE"], ["MKNOD"])
    assert host["Devices"][0]["PathInContainer"] == "/dev/ib"
    assert host["Devices"][0]["CgroupPermissions"] == "mrw"
    assert host["Mounts"][0]["BindOptions"] == {"Propagation": "rshared"}
    assert host["Mounts"][0]["ReadOnly"] is True


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", ContainerState.CREATED),
        ("running", ContainerState.RUNNING),
        ("paused", ContainerState.RUNNING),
        ("restarting", ContainerState.RUNNING),
        ("exited", ContainerState.EXITED),
        ("dead", ContainerState.EXITED),
        ("frobnicating", ContainerState.RUNNING),
    ],
)
def test_a_state_nobody_knows_means_that_it_may_run(status: str, state: ContainerState) -> None:
    assert state_of({"State": {"Status": status}}) is state


def test_an_exit_for_want_of_memory_is_told() -> None:
    ended = exit_of({"State": {"ExitCode": 137, "OOMKilled": True, "Error": ""}})
    assert (ended.code, ended.signal, ended.out_of_memory) == (137, None, True)


def test_each_binding_on_each_network_is_an_address() -> None:
    bindings = [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32769"}]
    inspected = {
        "HostConfig": {"NetworkMode": "bridge"},
        "Config": {},
        "NetworkSettings": {
            "Ports": {"1734/tcp": bindings, "80/tcp": None},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "none": {"IPAddress": ""}},
        },
    }
    found = [
        (a.container_ip, a.container_port, a.host_ip, a.host_port) for a in addresses_of(inspected)
    ]
    assert found == [
        ("172.17.0.2", 1734, "0.0.0.0", 32768),
        ("172.17.0.2", 1734, "::", 32769),
    ]


def mend(*frames: Frame, loses_newlines: bool) -> bytes:
    """Return what comes of the frames of a log."""
    mended = LineMender(loses_newlines=loses_newlines).mend(frames)
    return b"".join(data for _, data in mended)


def test_a_cut_line_gets_back_the_newline_that_was_lost() -> None:
    piece = b"x" * 16384
    frames = [(STDOUT, piece), (STDOUT, b"end"), (STDOUT, b"next\n")]
    for loses in (True, False):
        assert mend(*frames, loses_newlines=loses) == piece + b"end\nnext\n"
    exact = [(STDOUT, piece), (STDOUT, b"next\n")]
    assert mend(*exact, loses_newlines=True) == piece + b"\nnext\n"
    assert mend(*exact, loses_newlines=False) == piece + b"next\n"


def test_lines_that_lost_nothing_stay_as_they_are() -> None:
    piece = b"x" * 16384
    for loses in (True, False):
        assert mend((STDOUT, b"a\n"), (STDOUT, b"no end"), loses_newlines=loses) == b"a\nno end"
        # The other stream's lines come between, and end nothing.
        frames = [(STDOUT, piece), (STDERR, b"e\n"), (STDOUT, b"end")]
        assert mend(*frames, loses_newlines=loses) == piece + b"e\nend"


def test_podmans_log_is_read_by_whole_lines() -> None:
    time = b"2026-11-25T15:54:48.323342615+00:00"
    log = b"".join(
        [
            time + b" stdout F caf\xc3\xa9 \xff\0 two  blanks \n",
            time + b" stderr P no\n",
            time + b" stdout F \n",
            time + b" stderr F end\n",
            time + b" stdout F half",
        ]
    )
    frames, rest = parse_lines(log)
    assert frames == [
        (STDOUT, b"caf\xc3\xa9 \xff\0 two  blanks \n"),
        (STDERR, b"no"),
        (STDOUT, b"\n"),
        (STDERR, b"end\n"),
    ]
    assert rest == time + b" stdout F half"
    with pytest.raises(UnreadableAnswer, match="unknown form"):
        parse_lines(b"level=warning msg=x\n")
