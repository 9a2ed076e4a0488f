"""Specs in the words of each runtime, and logs and devices as they find them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import SpecUnsupported, UnreadableAnswer
from shipway_agent.runtimes.apptainerforms import (
    client_variables,
    container_environment,
    parse_dialect,
    run_arguments,
)
from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame
from shipway_agent.runtimes.devices import gpu_nodes, gpu_variables, rocm_nodes
from shipway_agent.runtimes.dockerforms import addresses_of, create_body, exit_of, state_of
from shipway_agent.runtimes.dockerlogs import LineMender
from shipway_agent.runtimes.environment import client_environment
from shipway_agent.runtimes.podmanforms import (
    create_arguments,
    environment_file_text,
    named_variables,
)
from shipway_agent.runtimes.podmanlog import parse_lines
from shipway_agent.runtimes.shimfiles import encode_frame, split_frames
from shipway_agent.runtimes.spec import (
    ContainerId,
    ContainerSpec,
    ContainerState,
    Device,
    Gpu,
    Mount,
)

A100 = "GPU-11111111-2222-3333-4444-555555555555"
MIG = "MIG-aaaaaaaa-0000-5000-8000-000000000001"


def make_spec(**changes: Any) -> ContainerSpec:
    """Make a valid spec."""
    usual: dict[str, Any] = {"id": ContainerId("c-1"), "image": "img", "argv": ("prog", "arg")}
    return ContainerSpec(**{**usual, **changes})


def values_after(option: str, arguments: Sequence[str]) -> list[str]:
    """Return the value of each *option*."""
    return [b for a, b in pairwise(arguments) if a == option]


def test_docker_gets_the_gpus_by_their_uuids_and_no_more() -> None:
    body = create_body(make_spec(gpus=(Gpu(uuid=A100, vendor="nvidia"),)), for_podman=False)
    (request,) = body["HostConfig"]["DeviceRequests"]
    assert request["Driver"] == "nvidia"
    assert request["DeviceIDs"] == [A100]
    assert request["Count"] == 0
    assert request["Capabilities"] == [["gpu", "compute", "utility"]]
    assert body["Env"] == []
    everything = create_body(make_spec(all_gpus="nvidia"), for_podman=False)
    assert everything["HostConfig"]["DeviceRequests"][0]["Count"] == -1
    nothing = create_body(make_spec(), for_podman=False)
    assert nothing["Env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert "DeviceRequests" not in nothing["HostConfig"]


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
    body = create_body(spec, for_podman=False)
    host = body["HostConfig"]
    assert body["Env"] == ["A=b=c", "NVIDIA_VISIBLE_DEVICES=all"]
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


def test_frames_are_read_whole_wherever_they_are_cut() -> None:
    frames = [(STDOUT, b"one"), (STDERR, b""), (STDOUT, b"x" * 70000)]
    data = b"".join(encode_frame(*frame) for frame in frames)
    for step in (1, 3, 4096):
        seen: list[Frame] = []
        rest = b""
        for start in range(0, len(data), step):
            more, rest = split_frames(rest + data[start : start + step])
            seen += more
        assert seen == frames
        assert rest == b""


def test_podman_is_told_names_of_variables_and_no_values(tmp_path: Path) -> None:
    spec = make_spec(
        environment={"TOKEN": "s3cret", "NL": "a\nb", "PATH": "/x y", "LD_PRELOAD": "", "S*": "1"},
        mounts=(Mount(source='/a "b,c:d', target="/t", read_only=True),),
        gpus=(Gpu(uuid=A100, vendor="nvidia"),),
        entrypoint=("/bin/sh", "-c"),
        argv=("--flag",),
    )
    arguments = create_arguments(spec, tmp_path, tmp_path / "env", lambda _: None)
    assert named_variables(spec) == ["TOKEN", "NL"]
    assert environment_file_text(spec) == b"PATH=/x y\nLD_PRELOAD=\nS*=1\n"
    assert "s3cret" not in " ".join(arguments)
    assert values_after("--env", arguments) == ["TOKEN", "NL"]
    assert values_after("--device", arguments) == [f"nvidia.com/gpu={A100}"]
    assert values_after("--entrypoint", arguments) == ['["/bin/sh", "-c"]']
    assert values_after("--mount", arguments) == [
        'type=bind,"source=/a ""b,c:d",target=/t,bind-propagation=rprivate,ro=true'
    ]
    assert arguments[-3:] == ["--", "img", "--flag"]
    with pytest.raises(SpecUnsupported, match="'HOME'"):
        environment_file_text(make_spec(environment={"HOME": "a\nb"}))


@pytest.mark.parametrize(
    ("version", "prefix"),
    [
        ("apptainer version 1.4.5", "APPTAINER"),
        ("singularity-ce version 4.1.0", "SINGULARITY"),
        ("singularity version 3.8.6-1.el8", "SINGULARITY"),
    ],
)
def test_apptainers_relatives_have_prefixes_of_their_own(version: str, prefix: str) -> None:
    dialect = parse_dialect(version, shows_home=False)
    assert dialect.prefix == prefix
    spec = make_spec(environment={"A": "$x", "HOME": "/h", "SINGULARITY_DOCKER_PASSWORD": "pw"})
    variables = container_environment(spec, dialect)
    assert variables[f"{prefix}ENV_A"] == "$x"
    assert f"{prefix}ENV_HOME" not in variables
    assert client_variables(spec, None, dialect) == {f"{prefix}_DOCKER_PASSWORD": "pw"}


def test_apptainer_shows_a_home_only_in_a_job(tmp_path: Path) -> None:
    folder, tree = tmp_path / "folder", tmp_path / "tree"
    folder.mkdir()
    tree.mkdir()

    def arguments(shows_home: bool, **changes: Any) -> list[str]:
        dialect = parse_dialect("apptainer version 1.4.5", shows_home=shows_home)
        return run_arguments(make_spec(**changes), folder, tree, dialect, lambda _: None)

    assert "--no-home" in arguments(shows_home=False)
    assert "--pid" in arguments(shows_home=False)
    assert "--no-home" not in arguments(shows_home=True)
    assert "--pid" not in arguments(shows_home=True)
    own = arguments(shows_home=False, environment={"HOME": "/home/x"})
    assert values_after("--home", own) == [f"{folder}/home:/home/x"]
    targets = [mount.split("destination=")[1] for mount in values_after("--mount", own)]
    assert {"/tmp", "/var/tmp"} <= set(targets)
    kept = arguments(shows_home=True, environment={"DET_CONTAINER_LOCAL_TMP": "1"})
    assert not any("destination=/tmp" in mount for mount in values_after("--mount", kept))


@pytest.fixture
def nvidia_host(tmp_path: Path) -> tuple[Path, Path]:
    """The device files and the driver's files of a host with two cards."""
    dev, proc = tmp_path / "dev", tmp_path / "proc"
    (dev / "nvidia-caps").mkdir(parents=True)
    names = ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1")
    for name in names:
        (dev / name).touch()
    for minor, uuid in ((1, A100), (0, "GPU-other")):
        folder = proc / "driver/nvidia/gpus" / f"0000:0{minor}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_bytes(
            b"Model: \t\t \xff NVIDIA A100: 40GB\nGPU UUID: \t "
            + uuid.encode()
            + b"\nDevice Minor: \t "
            + str(minor).encode()
            + b"\n"
        )
    return dev, proc


def test_a_card_is_found_by_its_uuid(nvidia_host: tuple[Path, Path]) -> None:
    dev, proc = nvidia_host
    nodes = gpu_nodes(make_spec(gpus=(Gpu(uuid=A100, vendor="nvidia"),)), dev=dev, proc=proc)
    assert [os.path.basename(node) for node in nodes] == ["nvidiactl", "nvidia-uvm", "nvidia1"]
    part = gpu_nodes(make_spec(gpus=(Gpu(uuid=MIG, vendor="nvidia"),)), dev=dev, proc=proc)
    assert {"nvidia0", "nvidia1", "nvidia-cap1"} <= {os.path.basename(node) for node in part}
    everything = gpu_nodes(make_spec(all_gpus="nvidia"), dev=dev, proc=proc)
    assert len(everything) == 5
    with pytest.raises(SpecUnsupported, match="GPU-gone"):
        gpu_nodes(make_spec(gpus=(Gpu(uuid="GPU-gone", vendor="nvidia"),)), dev=dev, proc=proc)


def test_an_amd_card_is_found_by_its_pci_address(tmp_path: Path) -> None:
    by_path = tmp_path / "dri/by-path"
    by_path.mkdir(parents=True)
    for kind, node in (("card", "card1"), ("render", "renderD129")):
        (tmp_path / "dri" / node).touch()
        (by_path / f"pci-0000:c1:00.0-{kind}").symlink_to(f"../{node}")
    gpu = Gpu(uuid="0x1f", vendor="rocm", pci_bus="0000:C1:00.0")
    assert rocm_nodes([gpu], tmp_path) == [
        f"{tmp_path}/kfd",
        f"{tmp_path}/dri/card1",
        f"{tmp_path}/dri/renderD129",
    ]
    with pytest.raises(SpecUnsupported, match=r"pci-0000:c2:00\.0-card"):
        rocm_nodes([Gpu(uuid="0x2", vendor="rocm", pci_bus="0000:c2:00.0")], tmp_path)
    with pytest.raises(SpecUnsupported, match="its PCI address"):
        rocm_nodes([Gpu(uuid="0x2", vendor="rocm")], tmp_path)


def test_gpus_are_named_in_their_vendors_way() -> None:
    nvidia = Gpu(uuid=A100, vendor="nvidia")
    rocm = Gpu(uuid="0x1F", vendor="rocm")
    assert gpu_variables([nvidia]) == {"CUDA_VISIBLE_DEVICES": A100}
    assert gpu_variables([rocm]) == {"ROCR_VISIBLE_DEVICES": "GPU-000000000000001f"}
    assert gpu_variables([]) == {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}


def test_programs_get_what_finds_their_way_and_nothing_else() -> None:
    environ = {"PATH": "/mine", "HOME": "/h", "SECRET": "x", "https_proxy": "p", "LD_PRELOAD": "l"}
    kept = client_environment({**environ, "CONTAINERS_CONF": "c", "NOTIFY_SOCKET": "n"})
    assert set(kept) == {"PATH", "HOME", "https_proxy", "CONTAINERS_CONF"}
    assert kept["PATH"].split(":")[0] == "/mine"
    assert "/usr/sbin" in kept["PATH"].split(":")
