"""GPUs by their UUIDs, as engines are asked for them; the devices themselves are stand-ins."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.cdi import cdi_names, has_cdi
from shipway_agent.runtimes.devices import node_groups
from shipway_agent.runtimes.dockerforms import create_body
from shipway_agent.runtimes.engineinfo import EngineInfo, read_engine_info
from shipway_agent.runtimes.spec import ContainerSpec, Gpu, Runtime
from tests.agent.runtimes.steps import ignore, run
from tests.agent.runtimes.test_engineforms import DOCKER, make_spec

A100 = Gpu(uuid="GPU-11111111-2222-3333-4444-555555555555", vendor="nvidia")
MIG = Gpu(uuid="MIG-GPU-11111111-2222-3333-4444-555555555555/9/0", vendor="nvidia")


def cdi_text(*devices: dict[str, Any], kind: str = "nvidia.com/gpu") -> str:
    """Return a CDI file."""
    return json.dumps({"cdiVersion": "0.5.0", "kind": kind, "devices": devices})


def cdi_device(name: str, *nodes: str, **edits: Any) -> dict[str, Any]:
    """Return a device of a CDI file; a node is `path` or `path=host path`."""
    pairs = [node.partition("=") for node in nodes]
    paths = [{"path": path, "hostPath": host or path} for path, _, host in pairs]
    return {"name": name, "containerEdits": {"deviceNodes": paths, **edits}}


@pytest.fixture
def cdi_gpu() -> Iterator[Gpu]:
    """A GPU that Podman's CDI files describe: /dev/null under another name."""
    gpu = Gpu(uuid=f"GPU-{uuid.uuid4()}", vendor="nvidia")
    path = Path("/var/run/cdi") / f"shipway-test-{gpu.uuid}.json"
    path.parent.mkdir(exist_ok=True)
    device = cdi_device(gpu.uuid, "/dev/lab-gpu=/dev/null", env=[f"SEEN={gpu.uuid}"])
    path.write_text(cdi_text(device))
    yield gpu
    path.unlink()


@pytest.mark.parametrize("case_name", ["podman", "podman-socket"], indirect=True)
async def test_podman_gives_the_gpu_that_was_asked_for(
    runtime: Runtime, make_spec: Callable[..., ContainerSpec], cdi_gpu: Gpu
) -> None:
    spec = make_spec(argv=("sh", "-c", "echo $SEEN; ls /dev/lab-gpu"), gpus=(cdi_gpu,))
    assert (await run(runtime, spec)).stdout == f"{cdi_gpu.uuid}\n/dev/lab-gpu\n".encode()


@pytest.mark.parametrize("case_name", ["podman", "podman-socket"], indirect=True)
async def test_a_gpu_that_podman_does_not_know_is_refused_by_name(
    runtime: Runtime, make_spec: Callable[..., ContainerSpec]
) -> None:
    with pytest.raises(SpecUnsupported, match=A100.uuid):
        await runtime.create(make_spec(gpus=(A100,)), ignore)
    assert await runtime.list_owned({}) == []


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
@pytest.mark.parametrize("wish", ["nothing", "all"])
async def test_a_container_without_gpus_sees_none_whatever_it_wishes(
    runtime: Runtime, make_spec: Callable[..., ContainerSpec], wish: str
) -> None:
    environment = {} if wish == "nothing" else {"NVIDIA_VISIBLE_DEVICES": wish}
    spec = make_spec(argv=("cat", "/proc/self/environ"), environment=environment)
    seen = (await run(runtime, spec)).stdout.split(b"\0")
    assert [one for one in seen if one.startswith(b"NVIDIA_")] == [b"NVIDIA_VISIBLE_DEVICES=void"]


def test_a_gpu_is_found_in_cdi_files_by_uuid_or_by_its_device_file(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    folder = proc / "driver/nvidia/gpus/0000:c1:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text(f"GPU UUID: {A100.uuid}\nDevice Minor: 3\n")
    files = tmp_path / "cdi"
    files.mkdir()
    assert not has_cdi([files])
    numbered = cdi_device("0", "/dev/nvidia3", "/dev/nvidiactl")
    everything = cdi_device("all", "/dev/nvidia3", "/dev/nvidia4")
    (files / "broken.yaml").write_text("kind: [")
    (files / "other.json").write_text(cdi_text(cdi_device(A100.uuid), kind="vendor.com/net"))
    (files / "gpus.json").write_text(cdi_text(everything, numbered, cdi_device(MIG.uuid)))
    assert has_cdi([files])
    assert cdi_names([A100, MIG], [files], proc=proc) == [
        "nvidia.com/gpu=0",
        f"nvidia.com/gpu={MIG.uuid}",
    ]
    (files / "uuids.yaml").write_text(
        f"kind: nvidia.com/gpu\ndevices:\n- name: {A100.uuid}\n  containerEdits: {{}}\n"
    )
    assert cdi_names([A100], [files], proc=proc) == [f"nvidia.com/gpu={A100.uuid}"]
    with pytest.raises(SpecUnsupported, match=r"GPU-gone.*nvidia-ctk cdi generate"):
        cdi_names([Gpu(uuid="GPU-gone", vendor="nvidia")], [files], proc=proc)


def test_docker_is_asked_by_cdi_only_where_that_is_its_way(tmp_path: Path) -> None:
    (tmp_path / "gpus.json").write_text(cdi_text(cdi_device(A100.uuid)))

    def info(**told: Any) -> EngineInfo:
        return read_engine_info(told, is_podman=False, is_local=True)

    folders = [str(tmp_path)]
    assert info(CDISpecDirs=folders, Runtimes={"runc": {}}).nvidia_by == "cdi"
    assert info(CDISpecDirs=folders, Runtimes={"nvidia": {}}).nvidia_by == "request"
    assert info(CDISpecDirs=["/no/such"], Runtimes={}).nvidia_by == "request"
    assert info(Runtimes={}).nvidia_by == "request"
    by_cdi = info(CDISpecDirs=folders)
    body = create_body(make_spec(gpus=(A100,)), by_cdi)
    assert body["HostConfig"]["DeviceRequests"] == [
        {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={A100.uuid}"]}
    ]
    body = create_body(make_spec(all_gpus="nvidia"), by_cdi)
    assert body["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["nvidia.com/gpu=all"]


def test_docker_gets_the_gpus_by_their_uuids_and_no_more() -> None:
    body = create_body(make_spec(gpus=(A100,)), DOCKER)
    (request,) = body["HostConfig"]["DeviceRequests"]
    assert request["Driver"] == "nvidia"
    assert request["DeviceIDs"] == [A100.uuid]
    assert request["Count"] == 0
    assert request["Capabilities"] == [["gpu", "compute", "utility"]]
    assert body["Env"] == []
    everything = create_body(make_spec(all_gpus="nvidia"), DOCKER)
    assert everything["HostConfig"]["DeviceRequests"][0]["Count"] == -1
    nothing = create_body(make_spec(), DOCKER)
    assert nothing["Env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert nothing["HostConfig"]["DeviceRequests"] == []


def test_amd_devices_come_with_the_groups_that_may_open_them(tmp_path: Path) -> None:
    folder = tmp_path / "dri"
    folder.mkdir()
    for name, group in (("card0", 44), ("renderD128", 109), ("root", 0)):
        path = folder / name
        path.touch()
        os.chown(path, 0, group)
    assert node_groups([str(folder)]) == ["44", "109"]
    assert node_groups([str(folder / "card0")]) == ["44"]
