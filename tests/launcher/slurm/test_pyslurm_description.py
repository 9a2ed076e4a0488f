"""From a batch script's directives to what pyslurm is told."""

from __future__ import annotations

import pytest

from shipway_launcher.batch.script import render_directive
from shipway_launcher.batch.useroptions import Option
from shipway_launcher.slurm.pyslurm.description import NeedsSbatch, describe
from shipway_launcher.slurm.pyslurm.directives import parse_directives
from shipway_launcher.slurm.pyslurm.site import parse_config, why_sbatch
from shipway_launcher.slurm.version import SlurmVersion

PLAIN: dict[str, str | None] = {
    "job-name": "det-1",
    "chdir": "/tmp",
    "output": "/lustre/a.log",
    "nodes": "1",
    "ntasks": "1",
    "propagate": "NONE",
}
OLD, NEW = SlurmVersion(22, 5, 8), SlurmVersion(25, 11, 2)


def fields(**changes: str | None) -> dict[str, object]:
    options = {**PLAIN, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return dict(describe(options, version=OLD).fields)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "",
        "two words",
        'a "quoted" \\ one',
        "#1 = --x",
        "#SBATCH --hold",
        "ünï",
        "gpu:a100:4,tmp:2",
        "/a b/c",
        None,
    ],
)
def test_what_the_launcher_writes_is_read_back(value: str | None) -> None:
    line = render_directive(Option(name="comment", value=value))
    script = (
        f"#!/bin/bash\n# A comment: #SBATCH is not one.\n\n#SBATCH {line}\n\ntrue\n#SBATCH --x\n"
    )
    assert parse_directives(script) == {"comment": value}


def test_of_two_the_last_one_counts() -> None:
    assert parse_directives("#!/bin/sh\n#SBATCH --mem=1\n#SBATCH --mem=2\n") == {"mem": "2"}


@pytest.mark.parametrize(
    "line",
    ["#SBATCH -N 2", "#SBATCH --mem 2", "#SBATCH --a=1 --b=2", "#PBS -l x", "#SBATCH --a='b c'"],
)
def test_what_it_would_not_write_is_left_to_sbatch(line: str) -> None:
    assert parse_directives(f"#!/bin/sh\n{line}\n") is None


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:30", 91),
        ("1:30:00", 90),
        ("1:30:01", 91),
        ("2-0", 2880),
        ("1-2:30", 1590),
        ("1-2:30:10", 1591),
    ],
)
def test_times_are_whole_minutes(text: str, minutes: int) -> None:
    assert fields(time=text)["time_min"] == minutes


@pytest.mark.parametrize(
    ("text", "mib"), [("500", 500), ("500M", 500), ("2G", 2048), ("1T", 1 << 20)]
)
def test_memory_is_in_mib(text: str, mib: int) -> None:
    assert fields(mem=text)["memory_mib"] == mib


def test_nodes_and_gpus() -> None:
    found = describe({**PLAIN, "nodes": "1-8", "ntasks": "8", "gpus": "mygpu:8"}, version=OLD)
    assert (found.fields["min_nodes"], found.fields["max_nodes"]) == (1, 8)
    assert found.fields["tres_per_job"] == "gpu:mygpu:8"
    assert found.variables["SLURM_GPUS"] == "mygpu:8"
    assert found.variables["SLURM_NTASKS"] == "8"


def test_one_task_a_node_makes_as_many_tasks_as_nodes() -> None:
    options = {name: value for name, value in PLAIN.items() if name != "ntasks"}
    found = describe({**options, "nodes": "3", "ntasks-per-node": "2"}, version=OLD).fields
    assert (found["ntasks"], found["min_cpus"]) == (6, 6)
    ranged = describe({**options, "nodes": "1-3", "ntasks-per-node": "1"}, version=OLD).fields
    assert "ntasks" not in ranged
    assert ranged["min_cpus"] == 1


def test_later_releases_get_what_mpirun_needs() -> None:
    assert "HYDRA_BOOTSTRAP" not in describe(PLAIN, version=OLD).variables
    assert describe(PLAIN, version=NEW).variables["HYDRA_BOOTSTRAP"] == "slurm"


@pytest.mark.parametrize(
    "changes",
    [
        {"exclusive": None},
        {"signal": "B:TERM@60"},
        {"array": "1-3"},
        {"mem": "0"},
        {"mem": "1K"},
        {"time": "UNLIMITED"},
        {"time": "0"},
        {"nodes": "2-1"},
        {"nodes": "4,8"},
        {"nodes": "1-8", "ntasks": "2"},
        {"gpus": "a:b:8"},
        {"gpus": "0"},
        {"gres": "gpu"},
        {"gres": "none"},
        {"ntasks": "70000"},
        {"output": "relative.log"},
        {"propagate": "ALL"},
        {"propagate": ""},
        {"open-mode": "x"},
        {"hold": "1"},
        {"comment": ""},
        {"no-such-option": "1"},
    ],
    ids=str,
)
def test_what_may_come_out_otherwise_is_left_to_sbatch(changes: dict[str, str | None]) -> None:
    with pytest.raises(NeedsSbatch):
        describe({**PLAIN, **changes}, version=OLD)


@pytest.mark.parametrize("name", ["job-name", "chdir", "output", "nodes", "propagate"])
def test_what_sbatch_would_have_to_fill_in_is_left_to_it(name: str) -> None:
    with pytest.raises(NeedsSbatch):
        describe({key: value for key, value in PLAIN.items() if key != name}, version=OLD)


def test_cpus_per_task_of_later_releases_are_left_to_sbatch() -> None:
    assert fields(cpus_per_task="3")["min_cpus"] == 3
    with pytest.raises(NeedsSbatch):
        describe({**PLAIN, "cpus-per-task": "3"}, version=NEW)


def config_of(tmp_path_text: str, **changes: str) -> dict[str, str]:
    settings = {"SLURM_CONF": f"{tmp_path_text}/slurm.conf", "CliFilterPlugins": "(null)"}
    lines = [f"{name:<24}= {value}" for name, value in {**settings, **changes}.items()]
    return parse_config("Configuration data as of 2026\n" + "\n".join(lines) + "\n")


def test_what_only_sbatch_runs_is_found(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("etc")
    assert why_sbatch(config_of(str(folder))) is None
    for changes in (
        {"CliFilterPlugins": "cli_filter/lua"},
        {"TaskPluginParam": "(null type),OOMKillStep"},
        {"MpiParams": "disable_slurm_hydra_bootstrap"},
    ):
        assert why_sbatch(config_of(str(folder), **changes)) is not None
    plugins = folder / "plugstack.conf"
    plugins.write_text("# nothing\n\n")
    assert why_sbatch(config_of(str(folder))) is None
    plugins.write_text("required x.so\n")
    assert "plugstack.conf" in str(why_sbatch(config_of(str(folder))))
    other = folder / "other.conf"
    assert why_sbatch(config_of(str(folder), PlugStackConfig=str(other))) is None
