"""Manifests as the launcher reads them."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

import pytest

from shipway_master.allocations.ids import AllocationId, ResourcesId, TaskId
from shipway_master.hpc.arguments import ForbiddenOption, check_sbatch_arguments
from shipway_master.hpc.manifest import (
    Site,
    Target,
    Unlaunchable,
    build_manifest,
    build_query,
    name_payload,
)
from shipway_master.hpc.needs import compute_needs
from shipway_master.tasks.config import parse_config
from shipway_master.tasks.files import FILE_TYPE, TaskFile
from shipway_master.tasks.launch import AgentUser, Launch, Tcd

SITE = Site(
    runtime="podman",
    master_url="http://login:8080",
    master_host="login",
    master_port=8080,
    cluster_id="6f0e2d1c",
)


def make_launch(**config: Any) -> Launch:
    """Make a command's start."""
    return Launch(
        task_id=TaskId("9d0c"),
        task_type="COMMAND",
        allocation_id=AllocationId("9d0c.1"),
        label="cmd-9d0c",
        owner="alice",
        config=parse_config({"entrypoint": ["hostname"], **config}),
        tcd=Tcd(),
        agent_user=AgentUser(user="crayuser", uid=1000, gid=1000, is_chosen=True),
        token="secret",
        files=[TaskFile(path="src/a.py", type=FILE_TYPE, content=b"print()", mode=0o644)],
    )


def build(launch: Launch, site: Site = SITE, slots: int = 0, **target: Any) -> Any:
    """Build the only payload's parts."""
    slot_type = target.pop("slot_type", "cpu")
    needs = compute_needs(
        slots, slot_type, slots_per_node=None, single_node=True, tres=True, gres=True
    )
    chosen = Target(partition="batch", slot_type=slot_type, needs=needs, **target)
    manifest: Any = build_manifest(launch, ResourcesId("r-1"), chosen, site)
    assert manifest["manifestVersion"] == "v1"
    assert manifest["clientMetadata"] == {"name": "det"}
    (payload,) = manifest["payloads"]
    json.dumps(manifest)
    return payload


def test_a_command_without_slots() -> None:
    image = {"environment": {"image": "img:1"}}
    payload = build(make_launch(**image))
    assert payload["name"] == "ai_cmd-9d0c"
    assert payload["carriers"] == ["com.cray.analytics.capsules.carriers.hpc.slurm.PodmanOverSlurm"]
    parameters = payload["launchParameters"]
    assert parameters["images"] == {"default": "img:1"}
    assert parameters["arguments"] == ["/bin/sh", "-c", "hostname"]
    assert parameters["configuration"] == {
        "enableWritableTmpFs": "true",
        "exportAll": "true",
        "networkMode": "host",
        "queue": "batch",
        "workingDir": "/run/determined/workdir",
    }
    assert payload["resourceRequirements"] == {"instances": {"nodes": 1}, "cores": {"per-node": 1}}
    environment = parameters["environment"]
    for name, value in {
        "DET_MASTER": "http://login:8080",
        "DET_MASTER_HOST": "login",
        "DET_MASTER_PORT": "8080",
        "DET_CLUSTER_ID": "6f0e2d1c",
        "DET_RESOURCES_TYPE": "slurm-job",
        "DET_RESOURCES_ID": "r-1",
        "DET_CONTAINER_ID": "",
        "DET_SLOT_TYPE": "cpu",
        "DET_TASK_TYPE": "COMMAND",
        "DET_LOCALTMP": "/",
        "DET_CONTAINER_LOCAL_TMP": "1",
        "SLURM_KILL_BAD_EXIT": "1",
        "SLURM_MPI_TYPE": "pmi2",
    }.items():
        assert environment[name] == value
    assert "DET_SLOT_IDS" not in environment
    custom = parameters["custom"]
    assert (custom["slurmArgs"], custom["pbsArgs"]) == (None, None)


def test_archives_hold_folders_and_files_below_the_root() -> None:
    payload = build(make_launch(environment={"image": "i"}))
    members: dict[str, tarfile.TarInfo] = {}
    for text in payload["launchParameters"]["custom"]["Archives"]:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as tar:
            members |= {info.name: info for info in tar}
    assert members["run/determined"].mode == 0o700
    assert members["run/determined/workdir/src/a.py"].uid == 1000
    assert members["run/determined/etc/passwd"].uid == 0
    assert not any(name.startswith("/") for name in members)


def test_users_variables_arrive_whole_and_the_master_s_win() -> None:
    texts = ["A=b=c==", "DET_MASTER=mine", "SLURM_MPI_TYPE=pmix", "NAME", "N=l1\nl2"]
    payload = build(make_launch(environment={"image": "i", "environment_variables": texts}))
    environment = payload["launchParameters"]["environment"]
    assert environment["A"] == "b=c=="
    assert environment["DET_MASTER"] == "http://login:8080"
    assert environment["SLURM_MPI_TYPE"] == "pmix"
    assert environment["NAME"] == ""
    assert environment["N"] == "l1\nl2"


def test_gpus() -> None:
    launch = make_launch(
        environment={"image": {"cuda": "gpu"}}, slurm={"gpu_type": "tesla", "sbatch_args": ["-A x"]}
    )
    payload = build(launch, slots=4, slot_type="cuda")
    parameters = payload["launchParameters"]
    assert payload["resourceRequirements"] == {"instances": {"nodes": 1}, "gpus": {"total": 4}}
    assert parameters["configuration"]["enableNvidia"] == "true"
    assert parameters["configuration"]["gpuType"] == "tesla"
    assert parameters["environment"]["DET_SLOT_IDS"] == "[0,1,2,3]"
    assert parameters["custom"]["slurmArgs"] == ["-A x"]


def test_the_sandbox_needs_no_image_and_the_others_do() -> None:
    sandbox = Site(
        **{name: getattr(SITE, name) for name in SITE.__slots__} | {"runtime": "sandbox"}
    )
    payload = build(make_launch(), sandbox)
    assert payload["launchParameters"]["images"] == {}
    assert payload["carriers"][0].endswith("slurm.SandboxOverSlurm")
    with pytest.raises(Unlaunchable, match="no image is configured for slot_type: cpu"):
        build(make_launch())


@pytest.mark.parametrize("path", ["/run/determined/x", "data", "/run/determined"])
def test_nothing_is_mounted_below_the_run_folder(path: str) -> None:
    mounts = [{"host_path": "/x", "container_path": path}]
    with pytest.raises(Unlaunchable, match="cannot mount under /run/determined"):
        build(make_launch(environment={"image": "i"}, bind_mounts=mounts))


@pytest.mark.parametrize(("path", "private"), [("/tmp", False), ("/tmp/d", False), ("/d", True)])
def test_a_mount_on_or_below_tmp_keeps_the_private_tmp_away(path: str, private: bool) -> None:
    mounts = [{"host_path": "/x", "container_path": path, "read_only": True}]
    payload = build(make_launch(environment={"image": "i"}, bind_mounts=mounts))
    parameters = payload["launchParameters"]
    assert parameters["data"] == [{"name": "ds0", "source": "/x", "target": path, "readOnly": True}]
    assert ("DET_CONTAINER_LOCAL_TMP" in parameters["environment"]) is private


@pytest.mark.parametrize(
    "argument",
    [
        "--gpus=8",
        " -N4",
        "-G 2",
        "--ntasks-per-node=2",
        "--output=/x",
        "-o/x",
        "--requeue",
        "--gres=craynetwork:1,gpu:2",
        "--comment=x\n#SBATCH --uid=0",
        "--comment=a\x00b",
    ],
)
def test_options_of_the_launcher_are_refused(argument: str) -> None:
    with pytest.raises(ForbiddenOption):
        check_sbatch_arguments([argument])


@pytest.mark.parametrize(
    "argument",
    [
        "--mem=4G",
        "-A team",
        "--constraint=a100&nvlink",
        "--gres=craynetwork:4",
        "--gres",
        "--time=1",
    ],
)
def test_other_options_are_the_user_s(argument: str) -> None:
    check_sbatch_arguments([argument])


def test_a_payload_s_name_is_safe() -> None:
    assert name_payload("a';rm -rf x/é_1-2") == "ai_arm-rfx_1-2"


@pytest.mark.parametrize(
    ("kind", "name", "mode"),
    [("resources", "DAI-HPC-Resources", "interactive"), ("queue", "DAI-HPC-Queues", "batch")],
)
def test_queries(kind: str, name: str, mode: str) -> None:
    query: Any = build_query(kind)
    assert query["clientMetadata"]["name"] == query["payloads"][0]["name"] == name
    assert query["payloads"][0]["launchParameters"]["mode"] == mode
    assert len(query["payloads"][0]["carriers"]) == 2
