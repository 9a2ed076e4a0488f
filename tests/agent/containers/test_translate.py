from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.config import AgentSettings
from shipway_agent.containers.environment import AgentFacts, complete_environment
from shipway_agent.containers.labels import make_labels
from shipway_agent.containers.translate import check_id, read_environment, translate
from shipway_agent.errors import StartRefused
from shipway_agent.master.messages import (
    Container,
    MasterOptions,
    StartContainer,
)
from shipway_agent.master.wire import parse_message
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerId,
    ContainerSpec,
    Device,
    Gpu,
    ItemKind,
    Mount,
    RegistryAuth,
    Tmpfs,
)

SAMPLE = Path(__file__).parents[1] / "master/data/start.json"
OPTIONS = MasterOptions(master_id="m-1", cluster_id="c-1", version="0.38.1", expected=())


def order(**changes: Any) -> StartContainer:
    """Read the documented start order, with members of its Docker settings changed."""
    document = json.loads(SAMPLE.read_text())
    run = document["StartContainer"]["Spec"]["RunSpec"]
    for key, value in changes.items():
        is_hosts = key in run["HostConfig"] or key == "Tmpfs"
        part = "HostConfig" if is_hosts else "ContainerConfig"
        run[part][key] = value
    message = parse_message(json.dumps(document))
    assert isinstance(message, StartContainer)
    return message


def translated(start: StartContainer) -> ContainerSpec:
    return translate(start, environment={"A": "1"}, labels={"l": "2"}, pci_buses={})


def test_the_documented_order_becomes_a_spec() -> None:
    spec = translate(
        order(),
        environment={"A": "1"},
        labels={"l": "2"},
        pci_buses={"GPU-2b7d9c10-55aa-4f0e-8b1c-7a6e5d4c3b2a": "00000000:C1:00.0"},
    )

    def item(path: str, kind: ItemKind, mode: int, content: bytes = b"", owner: int = 1000) -> Any:
        return ArchiveItem(
            path=path,
            kind=kind,
            mode=mode,
            content=content,
            uid=owner,
            gid=owner,
            mtime=1501632000,
        )

    passwd = b"alice:x:1000:1000::/run/determined/workdir:/bin/bash\n"
    assert spec == ContainerSpec(
        id=ContainerId("0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11"),
        name="exp-12-trial-34-attempt-1",
        image="registry.example.com/ml/env:1.4",
        argv=(
            "/run/determined/ship-logs.sh",
            "/run/determined/ship_logs.py",
            "/run/determined/train/entrypoint.sh",
        ),
        environment={"A": "1"},
        labels={"l": "2"},
        work_dir="/run/determined/workdir",
        user="1000:1000",
        ports=(1734, 12350),
        publish_all_ports=True,
        network_mode="bridge",
        shm_size_bytes=4294967296,
        add_capabilities=("SYS_PTRACE",),
        devices=(Device(host="/dev/infiniband", container="/dev/infiniband", mode="mrw"),),
        mounts=(Mount(source="/tmp/ckpt", target="/determined_shared_fs"),),
        gpus=(
            Gpu(
                uuid="GPU-2b7d9c10-55aa-4f0e-8b1c-7a6e5d4c3b2a",
                vendor="nvidia",
                pci_bus="00000000:C1:00.0",
                index=1,
            ),
            Gpu(uuid="GPU-8f4c1a2e-0c6d-4c3b-9a5e-1d2c3b4a5f60", vendor="nvidia", index=0),
        ),
        registry_auth=RegistryAuth(
            username="bot", password="s3cret", server_address="registry.example.com"
        ),
        archives=(
            Archive(
                path="/",
                items=(
                    item("/run/determined", ItemKind.DIRECTORY, 0o700),
                    item("/run/determined/info", ItemKind.DIRECTORY, 0o755),
                ),
            ),
            Archive(
                path="/run/determined",
                items=(item("task-setup.sh", ItemKind.FILE, 0o744, b"#!/bin/sh\n"),),
            ),
            Archive(
                path="/",
                items=(item("/run/determined/etc/passwd", ItemKind.FILE, 0o644, passwd, owner=0),),
            ),
        ),
    )


def test_secrets_of_an_order_are_not_shown() -> None:
    assert "s3cret" not in repr(translated(order()))


def test_a_bind_may_be_written_in_either_form() -> None:
    mounts = [
        {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True},
        {"Type": "bind", "Source": "/c", "Target": "/d", "BindOptions": {"Propagation": "shared"}},
    ]
    spec = translated(order(Binds=["/e:/f", "/g:/h:ro,rslave"], Mounts=mounts))
    assert spec.mounts == (
        Mount(source="/e", target="/f"),
        Mount(source="/g", target="/h", read_only=True, propagation="rslave"),
        Mount(source="/a", target="/b", read_only=True),
        Mount(source="/c", target="/d", propagation="shared"),
    )


def test_a_tmpfs_may_be_written_in_either_form() -> None:
    mounts = [
        {"Type": "bind", "Source": "/a", "Target": "/b"},
        {"Type": "tmpfs", "Target": "/c", "TmpfsOptions": {"SizeBytes": 4096, "Mode": 448}},
        {"Type": "tmpfs", "Target": "/d"},
    ]
    tmpfs = {"/E": "rw,noexec,size=64m,mode=700", "/f": ""}
    spec = translated(order(Tmpfs=tmpfs, Mounts=mounts))
    assert spec.mounts == (Mount(source="/a", target="/b"),)
    assert spec.tmpfs == (
        Tmpfs(target="/E", size_bytes=64 << 20, mode=0o700),
        Tmpfs(target="/f"),
        Tmpfs(target="/c", size_bytes=4096, mode=0o700),
        Tmpfs(target="/d"),
    )


def test_an_entrypoint_that_is_given_replaces_the_images_own() -> None:
    assert translated(order()).entrypoint is None
    assert translated(order(Entrypoint=[])).entrypoint == ()
    assert translated(order(Entrypoint=["/init"])).entrypoint == ("/init",)


def test_only_tcp_ports_are_taken() -> None:
    ports = {"80/tcp": {}, "53/udp": {}, "22": {}, "80": {}}
    assert translated(order(ExposedPorts=ports)).ports == (22, 80)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Cmd": "sh"}, r"Cmd is str, not a list"),
        ({"ExposedPorts": {"x/tcp": {}}}, "'x/tcp' is no port"),
        ({"ExposedPorts": {"70000/tcp": {}}}, "'70000/tcp' is no port"),
        ({"Mounts": [{"Type": "volume"}]}, "only bind and tmpfs mounts"),
        ({"Tmpfs": {"/x": "size=lots"}}, "'/x' has a size or mode that is none"),
        ({"Tmpfs": {"/x": "mode=rwx"}}, "'/x' has a size or mode that is none"),
        ({"Binds": ["relative:/x"]}, "relative:/x"),
        ({"ShmSize": "4g"}, "ShmSize is str"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StartRefused, match=words):
        translated(order(**changes))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"path": "x", "type": 51}, "type: 51"),
        ({"path": "x", "type": 48, "content": "no base64!"}, "content is no base64"),
        ({"path": "x", "type": 48, "mtime": 1.5}, "mtime is float"),
    ],
)
def test_an_archive_that_is_not_understood_is_refused(item: dict[str, Any], words: str) -> None:
    document = json.loads(SAMPLE.read_text())
    archives = [{"Path": "/", "Archive": [item]}]
    document["StartContainer"]["Spec"]["RunSpec"]["Archives"] = archives
    start = parse_message(json.dumps(document))
    assert isinstance(start, StartContainer)
    with pytest.raises(StartRefused, match=words):
        translated(start)


def test_environment_values_arrive_whole_and_the_last_of_a_name_counts() -> None:
    entries = ['A=b=c "q"', "NL=l1\nl2", "EMPTY=", "BAD=\udcff\udcfe", "A=2", "INHERITED"]
    assert read_environment(order(Env=entries)) == {
        "A": "2",
        "NL": "l1\nl2",
        "EMPTY": "",
        "BAD": "\udcff\udcfe",
    }


@pytest.mark.parametrize("container_id", ["", "../x", "a/b", ".hidden", "a\n", "x" * 200])
def test_an_id_that_is_no_file_name_is_refused(container_id: str) -> None:
    with pytest.raises(StartRefused):
        check_id(Container(id=ContainerId(container_id)))


def facts(**values: Any) -> AgentFacts:
    return AgentFacts.of(
        AgentSettings.model_validate({"agent_id": "node", "master_host": "m", **values})
    )


def completed(facts: AgentFacts, **ordered: str) -> dict[str, str]:
    return complete_environment(ordered, facts, OPTIONS, order().container)


def test_the_agent_adds_where_the_container_runs() -> None:
    tls = {"tls": {"enabled": True, "master_cert_name": "master.test"}}
    environment = completed(facts(security=tls), DET_AGENT_ID="ordered", USER_VAR="1")
    assert environment == {
        "USER_VAR": "1",
        "DET_CLUSTER_ID": "c-1",
        "DET_MASTER_ID": "m-1",
        "DET_MASTER": "https://m:443",
        "DET_MASTER_HOST": "m",
        "DET_MASTER_ADDR": "m",
        "DET_MASTER_PORT": "443",
        "DET_AGENT_ID": "node",
        "DET_MASTER_CERT_NAME": "master.test",
        "DET_CONTAINER_ID": "0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11",
        "DET_SLOT_IDS": "[1,0]",
    }


def test_containers_may_reach_the_master_elsewhere() -> None:
    environment = completed(facts(container_master_host="::1", container_master_port=9000))
    assert environment["DET_MASTER"] == "http://[::1]:9000"
    assert environment["DET_MASTER_HOST"] == "::1"


def test_proxies_are_added_unless_the_task_has_its_own_in_any_case() -> None:
    agent = facts(http_proxy="http://p", no_proxy="a,b")
    environment = completed(agent, http_proxy="mine")
    assert environment["http_proxy"] == "mine"
    assert "HTTP_PROXY" not in environment
    assert environment["NO_PROXY"] == "a,b"
    assert "HTTPS_PROXY" not in environment


def test_containers_without_gpus_see_none() -> None:
    container = Container(id=ContainerId("a"))
    environment = complete_environment(
        {"NVIDIA_VISIBLE_DEVICES": "all"}, facts(), OPTIONS, container
    )
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert environment["DET_SLOT_IDS"] == "[]"


def test_labels_are_the_originals() -> None:
    assert make_labels(order().container, OPTIONS, "node") == {
        "ai.determined.container.type": "task-container",
        "ai.determined.container.version": "0",
        "ai.determined.container.agent": "node",
        "ai.determined.container.cluster": "c-1",
        "ai.determined.container.master": "m-1",
        "ai.determined.container.id": "0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11",
        "ai.determined.container.description": "exp-12-trial-34-attempt-1",
        "ai.determined.container.devices": "1,0",
    }
