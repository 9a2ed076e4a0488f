"""Specs in the words of each runtime, and logs and devices as they find them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.apptainerforms import (
    client_variables,
    container_environment,
    parse_dialect,
    run_arguments,
)
from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame
from shipway_agent.runtimes.devices import gpu_nodes, gpu_variables, rocm_nodes
from shipway_agent.runtimes.environment import client_environment
from shipway_agent.runtimes.podmanforms import (
    create_arguments,
    environment_file_text,
    named_variables,
)
from shipway_agent.runtimes.shimfiles import encode_frame_header, split_frames
from shipway_agent.runtimes.spec import (
    ContainerId,
    ContainerSpec,
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


def test_frames_are_read_whole_wherever_they_are_cut() -> None:
    frames = [(STDOUT, b"one"), (STDERR, b""), (STDOUT, b"x" * 70000)]
    data = b"".join(encode_frame_header(number, len(data)) + data for number, data in frames)
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
        entrypoint=("/bin/sh", "-c"),
        argv=("--flag",),
    )
    arguments = create_arguments(spec, tmp_path, tmp_path / "env", lambda _: None)
    assert named_variables(spec) == ["TOKEN", "NL"]
    assert environment_file_text(spec) == b"PATH=/x y\nLD_PRELOAD=\nS*=1\n"
    assert "s3cret" not in " ".join(arguments)
    assert values_after("--env", arguments) == ["TOKEN", "NL"]
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


def test_a_mig_instance_gets_the_files_of_its_card_alone(nvidia_host: tuple[Path, Path]) -> None:
    dev, proc = nvidia_host
    for number in (30, 31, 39):
        (dev / f"nvidia-caps/nvidia-cap{number}").touch()
    for place, number in (("gpu1/mig/gi7", 30), ("gpu1/mig/gi7/ci0", 31), ("gpu0/mig/gi7", 39)):
        folder = proc / "driver/nvidia/capabilities" / place
        folder.mkdir(parents=True, exist_ok=True)
        text = f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
        (folder / "access").write_text(text)
    # NVML writes the address so, the driver's folder is called 0000:01:00.0.
    part = Gpu(uuid=MIG, vendor="nvidia", pci_bus="00000000:01:00.0")
    nodes = gpu_nodes(make_spec(gpus=(part,)), dev=dev, proc=proc)
    names = ["nvidiactl", "nvidia-uvm", "nvidia1", "nvidia-cap30", "nvidia-cap31"]
    assert [os.path.basename(node) for node in nodes] == names


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
    part = Gpu(uuid="0x1f@0000:01:00.1", vendor="rocm", index=1)
    assert gpu_variables([rocm, part]) == {}
    assert gpu_variables([rocm, part], sees_others=True) == {
        "ROCR_VISIBLE_DEVICES": "GPU-000000000000001f,1"
    }


def test_programs_get_what_finds_their_way_and_nothing_else() -> None:
    environ = {"PATH": "/mine", "HOME": "/h", "SECRET": "x", "https_proxy": "p", "LD_PRELOAD": "l"}
    kept = client_environment({**environ, "CONTAINERS_CONF": "c", "NOTIFY_SOCKET": "n"})
    assert set(kept) == {"PATH", "HOME", "https_proxy", "CONTAINERS_CONF"}
    assert kept["PATH"].split(":")[0] == "/mine"
    assert "/usr/sbin" in kept["PATH"].split(":")
