"""From a manifest to the files of a job, and the agent's reader for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shipway_agent.job.taskfile import TaskFile, parse_task_file
from shipway_launcher.batch.settings import BatchSettings
from shipway_launcher.carriers.table import choose_carrier
from shipway_launcher.dispatches.prepare import Prepared, Site, prepare
from shipway_launcher.errors import StorageError, WrongRequest
from shipway_launcher.manifest import parse_manifest
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.slurm.gres import Gpus
from shipway_launcher.slurm.rows import ClusterRows, NodeRow, PartitionRow
from shipway_launcher.slurm.version import SlurmVersion
from tests.launcher.manifests import make_archive, make_manifest


def make_site(**changes: Any) -> Site:
    site = {
        "root": Path("/lustre/launcher"),
        "agent_command": ["/opt/shipway-agent"],
        "image_root": None,
        "pass_wckey": True,
        "batch": BatchSettings(),
        "archives_limit_bytes": 1 << 20,
        "relay_url": None,
        "facts": SlurmFacts(
            version=SlurmVersion(24, 11, 5), mpi_plugins=frozenset({"none", "pmi2", "pmix"})
        ),
        "cluster": None,
    }
    return Site(**{**site, **changes})


def prepared(site: Site | None = None, **changes: Any) -> Prepared:
    manifest = parse_manifest(make_manifest(**changes))
    carrier = choose_carrier(manifest.carriers)
    return prepare(manifest, carrier, site or make_site(), dispatch_id="9d0c.1", owner="alice")


def task_of(found: Prepared) -> TaskFile:
    (entry,) = (entry for entry in found.entries if entry.path == "task.json")
    assert entry.mode == 0o600
    return parse_task_file(entry.content, name="task.json")


def make_cluster(*nodes: str, max_nodes: int | None = None) -> ClusterRows:
    rows = [
        NodeRow(
            name=name,
            partitions=("gpu",),
            address=name,
            is_in_service=True,
            is_draining=False,
            is_allocated=False,
            cpus=8,
            cpus_in_use=0,
            gpus=Gpus(total=4),
            gpus_in_use=Gpus(),
        )
        for name in nodes
    ]
    partition = PartitionRow(
        name="gpu", is_default=True, total_nodes=len(nodes), max_nodes=max_nodes
    )
    return ClusterRows(partitions=(partition,), nodes=tuple(rows))


def test_the_agent_reads_what_the_launcher_writes() -> None:
    task = task_of(
        prepared(
            arguments=["/run/determined/ship-logs.sh", "a b"],
            carrier="PodmanOverSlurm",
            image="org/name:tag",
            environment={"BAD": "\udcff", "NL": "a\nb"},
            configuration={
                "networkMode": "host",
                "enableNvidia": "true",
                "addCapabilities": "IPC_LOCK,SYS_PTRACE",
                "dropCapabilities": "NET_RAW",
                "devices": "/dev/one:/dev/tr/1:,/dev/two:/dev/ctr/2:rw",
                "disableImageCache": "true",
            },
            data=[{"source": "/a:b", "target": "/c,d", "readOnly": True}],
            archives=[make_archive(("/run/determined/x", b"", 0o600))],
        )
    )
    assert (task.runtime, task.image) == ("podman", "org/name:tag")
    assert task.environment["BAD"] == "\udcff"
    assert task.archives_dir == Path("/lustre/launcher/jobs/environments/alice/9d0c.1/volume")
    assert [(mount.source, mount.target, mount.read_only) for mount in task.mounts] == [
        ("/a:b", "/c,d", True)
    ]
    assert task.gpu_vendor == "nvidia"
    assert task.add_capabilities == ("IPC_LOCK", "SYS_PTRACE")
    assert [(device.host, device.container) for device in task.devices] == [
        ("/dev/one", "/dev/tr/1"),
        ("/dev/two", "/dev/ctr/2"),
    ]
    assert task.disable_image_cache
    assert not task.ship_logs, "the stock shipper does that"
    assert task.private_run_dir
    assert task.master_url == "http://127.0.0.1:9"


def test_the_stock_wrappers_own_tree_is_shared_by_the_ranks() -> None:
    task = task_of(prepared(archives=[make_archive(("///determined_local_fs/w.sh", b"", 0o700))]))
    assert not task.private_run_dir
    assert task.ship_logs


def test_with_the_relay_the_job_takes_it_for_the_master() -> None:
    task = task_of(prepared(make_site(relay_url="http://login1:8183")))
    assert task.master_url == task.environment["DET_MASTER"] == "http://login1:8183"


def test_a_job_gets_what_it_verifies_the_relay_by(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(b"PEM")
    made = prepared(
        make_site(
            relay_url="https://login1:8183",
            relay_trust_file=authority,
            relay_certificate_name="relay.example",
        )
    )
    environment = task_of(made).environment
    assert environment["DET_USE_TLS"] == "true"
    assert environment["DET_MASTER_CERT_NAME"] == "relay.example"
    inside = environment["DET_MASTER_CERT_FILE"]
    [file] = [entry for entry in made.entries if entry.path.endswith(inside)]
    assert (file.content, file.mode) == (b"PEM", 0o644)


def test_a_relay_that_cannot_be_verified_stops_the_launch(tmp_path: Path) -> None:
    site = make_site(relay_url="https://login1:8183", relay_trust_file=tmp_path / "none")
    with pytest.raises(StorageError, match=r"relay\.listen_tls\.trust_file"):
        prepared(site)


def test_images_are_looked_for_where_the_task_runs() -> None:
    site = make_site(image_root=Path("/lustre/images"))
    task = task_of(prepared(site, carrier="SingularityOverSlurm", image="org/name:tag"))
    assert (task.image, task.image_root) == ("org/name:tag", Path("/lustre/images"))
    assert task_of(prepared(carrier="SingularityOverSlurm", image="x")).image_root is None


def test_something_mounted_below_tmp_is_saved_from_the_wrapper() -> None:
    local = {"DET_CONTAINER_LOCAL_TMP": "1"}
    below = [{"source": "/data", "target": "/tmp/../tmp/data"}]
    assert (
        "DET_CONTAINER_LOCAL_TMP"
        not in task_of(prepared(environment=local, data=below)).environment
    )
    assert "DET_CONTAINER_LOCAL_TMP" in task_of(prepared(environment=local)).environment


def directives(found: Prepared) -> list[str]:
    return [
        line.removeprefix("#SBATCH ")
        for line in found.script.splitlines()
        if line.startswith("#SBATCH ")
    ]


def test_the_launchers_options_stand_behind_the_users() -> None:
    lines = directives(prepared(slurm_arguments=["--time=5", "--cpus-per-task=3"]))
    assert lines[:2] == ["--time=5", "--cpus-per-task=3"]
    assert "--job-name=det-ai_cmd-9d0c7a3e-9d0c.1" in lines
    assert lines[-2:] == ["--no-requeue", "--open-mode=append"]


def test_lists_of_excluded_nodes_are_merged_without_unknown_names() -> None:
    site = make_site(cluster=make_cluster("n1", "n2", "n3"))
    lines = directives(prepared(site, slurm_arguments=["--exclude=n2,gone", "-x n[1-2]"]))
    assert [line for line in lines if "exclude" in line] == ["--exclude=n2,n1"]
    unknown = directives(prepared(slurm_arguments=["--exclude=n2,gone"]))
    assert "--exclude=n2,gone" in unknown, "without knowing the nodes, nothing is left out"


def test_a_file_of_nodes_to_exclude_is_refused() -> None:
    with pytest.raises(WrongRequest, match="--exclude"):
        prepared(slurm_arguments=["--exclude=/etc/passwd"])


@pytest.mark.parametrize(
    "option",
    [
        "--gres=gpu:2",
        "--gres=craynetwork:1,gpu",
        "--gres gpu:a100:1",
        "--gres=gres/gpu:1",
        "--gres=gpu=2",
    ],
)
def test_gpus_are_not_asked_for_by_the_way(option: str) -> None:
    with pytest.raises(WrongRequest, match="--gres may not be used to configure GPU"):
        prepared(slurm_arguments=[option])


def test_the_sites_part_stands_before_the_users() -> None:
    batch = BatchSettings(
        options=["--mem=4G", "-x n9", "--gres=craynetwork:1"],
        before="echo {{ payload }} {{ image }}",
        after="echo bye {{ owner }}",
    )
    found = prepared(
        make_site(batch=batch), payload="a'b", slurm_arguments=["--mem=8G", "--exclude=n1"]
    )
    assert directives(found)[:2] == ["--mem=4G", "--mem=8G"]
    assert {"--exclude=n9,n1", "--gres=craynetwork:1"} <= set(directives(found))
    lines = found.script.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("srun "))
    assert lines.index("echo 'a'\"'\"'b' ''") < start < lines.index("echo bye alice")


def test_only_trials_whose_gpus_may_be_shared_out_unequally_count_them() -> None:
    def counts(kind: str, **resources: object) -> bool:
        found = prepared(environment={"DET_TASK_TYPE": kind}, resources=resources)
        return "scontrol show job --details" in found.script

    anywhere = {"instances": {"per-node": 1}, "gpus": {"total": 4}}
    assert counts("TRIAL", **anywhere)
    assert not counts("COMMAND", **anywhere)
    assert not counts("TRIAL", **(anywhere | {"gpus": {"total": 4, "per-instance": 2}}))
    assert not counts("TRIAL", **(anywhere | {"gpus": {"total": 1}}))
    assert not counts("TRIAL", instances={"nodes": 2}, gpus={"per-node": 2})


def test_the_users_other_resources_stay_beside_the_gpus() -> None:
    lines = directives(
        prepared(
            slurm_arguments=["--gres=craynetwork:1"],
            resources={"instances": {"nodes": 1}, "gpus": {"per-node": 2}},
        )
    )
    assert lines[-1] != "--gres=gpu:2"
    assert "--gres=craynetwork:1,gpu:2" in lines


def test_the_wckey_can_be_dropped() -> None:
    arguments = ['--wckey="my project"']
    assert '--wckey="my project"' in directives(prepared(slurm_arguments=arguments))
    site = make_site(pass_wckey=False)
    assert not any(
        "wckey" in line for line in directives(prepared(site, slurm_arguments=arguments))
    )


@pytest.mark.parametrize(
    ("wanted", "mpi"), [("pmi2", "pmi2"), ("pmix_v4", "pmix_v4"), ("cray", "none"), ("", "none")]
)
def test_an_mpi_plugin_that_slurm_lacks_is_not_asked_for(wanted: str, mpi: str) -> None:
    script = prepared(environment={"SLURM_MPI_TYPE": wanted}).script
    assert f"--mpi={mpi} " in script


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"environment": {"DET_MASTER": ""}}, "DET_MASTER"),
        ({"environment": {"DET_SESSION_TOKEN": ""}}, "DET_SESSION_TOKEN"),
        ({"environment": {"DET_MASTER": "ftp://x"}}, "DET_MASTER"),
        ({"carrier": "PodmanOverSlurm"}, "images.default"),
        ({"configuration": {"queue": "a b"}}, "configuration.queue"),
        ({"configuration": {"queue": "--uid=0"}}, "configuration.queue"),
        ({"configuration": {"gpuType": "x;y"}}, "configuration.gpuType"),
        ({"configuration": {"workingDir": "relative"}}, "configuration.workingDir"),
        ({"configuration": {"workingDir": "/a\n#SBATCH --uid=0"}}, "configuration.workingDir"),
        ({"configuration": {"devices": "x"}}, "configuration.devices"),
        ({"configuration": {"addCapabilities": "A;B"}}, "capability"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(WrongRequest, match=named):
        prepared(**changes)


@pytest.mark.parametrize(
    ("changes", "warning_s", "keeps_usr1"),
    [
        ({}, 300, False),
        ({"slurm_arguments": ["--signal=B:USR1@90"]}, 90, True),
        ({"slurm_arguments": ["--signal=TERM@90"]}, 90, False),
        (
            {
                "slurm_arguments": ["--signal=USR1@90"],
                "environment": {"DET_TASK_TYPE": "TRIAL"},
            },
            90,
            False,
        ),
    ],
    ids=["the site's", "the user's", "the user's by TERM", "a trial saves its work by itself"],
)
def test_the_agent_learns_what_slurm_sends_before_the_time_limit(
    changes: dict[str, Any], warning_s: int, keeps_usr1: bool
) -> None:
    site = make_site(batch=BatchSettings.model_validate({"signal": "USR1", "signal_lead_s": 300}))
    task = task_of(prepared(site, **changes))
    assert (task.warning_s, task.keeps_usr1) == (warning_s, keeps_usr1)
    assert (task_of(prepared()).warning_s, task_of(prepared()).keeps_usr1) == (None, False)
