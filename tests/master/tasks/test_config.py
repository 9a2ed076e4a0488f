"""Configurations: what is read, what is refused, what the defaults do."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_common.settings import SettingsError
from shipway_master.allocations.exits import Ending, Failure, FailureType, Outcome
from shipway_master.config import MasterConfig, load_config
from shipway_master.durations import parse_duration_s
from shipway_master.tasks.config import BadConfig, apply_defaults, dump_config, parse_config
from shipway_master.tasks.defaults import TaskContainerDefaults, merge_defaults
from shipway_master.tasks.files import (
    FILE_TYPE,
    SYMLINK_TYPE,
    BadFile,
    TaskFile,
    check_files,
    pack,
    unpack,
)
from shipway_master.tasks.states import LOST_RUNS_LIMIT, Next, TaskState, TaskType, after_run


def parse(**config: Any) -> Any:
    """Read a configuration that runs something."""
    return parse_config({"entrypoint": ["x"], **config})


def defaults(**values: Any) -> TaskContainerDefaults:
    """Make defaults."""
    return TaskContainerDefaults.model_validate(values)


def test_nulls_are_as_good_as_absent() -> None:
    config = parse(work_dir=None, resources={"slots": None, "devices": None}, environment=None)
    assert config.resources.slots == 1


def test_one_value_for_all_slot_types_or_one_for_each() -> None:
    one = parse(environment={"image": "a", "environment_variables": ["A=1"]}).environment
    assert (one.image.cpu, one.image.cuda, one.image.rocm) == ("a", "a", "a")
    assert one.environment_variables.rocm == ["A=1"]
    each = parse(environment={"image": {"cpu": "a", "gpu": "b"}}).environment
    assert (each.image.cpu, each.image.cuda, each.image.rocm) == ("a", "b", "")


def test_an_unknown_key_is_told_with_the_one_that_was_meant() -> None:
    with pytest.raises(BadConfig, match=r"resources\.slotz: unknown key; did you mean slots\?"):
        parse(resources={"slotz": 1})


@pytest.mark.parametrize(
    ("text", "size"),
    [("4g", 4 * 2**30), ("512MiB", 512 * 2**20), (1000, 1000), ("1.5k", 1536), ("2 P", 2**51)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse(resources={"shm_size": text}).resources.shm_size == size


@pytest.mark.parametrize("text", ["big", "", "4 apples", "inf", "1.g", "1 gi", "9" * 41, "-1g"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(BadConfig, match="shm_size"):
        parse(resources={"shm_size": text})


def test_devices_in_both_forms() -> None:
    config = parse(
        resources={"devices": ["/dev/a:/dev/b:r", {"host_path": "/c", "container_path": "/d"}]}
    )
    assert [(one.host_path, one.mode) for one in config.resources.devices] == [
        ("/dev/a", "r"),
        ("/c", "mrw"),
    ]


def test_the_user_s_words_win_over_the_defaults() -> None:
    low = defaults(
        image="default",
        environment_variables=["A=low", "B=low"],
        bind_mounts=[
            {"host_path": "/low", "container_path": "/x"},
            {"host_path": "/low", "container_path": "/y"},
        ],
        work_dir="/work",
        shm_size_bytes=1,
        slurm={"sbatch_args": ["-A low"], "slots_per_node": 2},
    )
    config = apply_defaults(
        parse(
            environment={"image": {"cuda": "mine"}, "environment_variables": ["A=high"]},
            bind_mounts=[{"host_path": "/high", "container_path": "/x"}],
            slurm={"sbatch_args": ["--mem=4G"]},
        ),
        low,
        has_files=False,
    )
    assert (config.environment.image.cuda, config.environment.image.cpu) == ("mine", "default")
    assert list(config.environment.environment_variables.cpu) == ["A=low", "B=low", "A=high"]
    mounts = [(one.host_path, one.container_path) for one in config.bind_mounts]
    assert mounts == [("/low", "/y"), ("/high", "/x")]
    assert config.work_dir == "/work"
    assert config.resources.shm_size == 1
    assert (config.slurm.slots_per_node, list(config.slurm.sbatch_args)) == (
        2,
        ["-A low", "--mem=4G"],
    )


def test_files_and_a_work_dir_do_not_go_together() -> None:
    with pytest.raises(BadConfig, match="work_dir"):
        apply_defaults(parse(work_dir="/mine"), defaults(), has_files=True)
    config = apply_defaults(parse(), defaults(work_dir="/work"), has_files=True)
    assert config.work_dir == "/run/determined/workdir"


def test_a_pool_s_defaults_lie_over_the_master_s() -> None:
    merged = merge_defaults(
        defaults(image="a", network_mode="host", add_capabilities=["A"]),
        defaults(image="b", add_capabilities=["B"], environment_variables=["X=1"]),
    )
    assert merged.image is not None
    assert (merged.image.cpu, merged.network_mode) == ("b", "host")
    assert list(merged.add_capabilities) == ["A", "B"]
    assert list(merged.environment_variables.cuda) == ["X=1"]


def test_secrets_are_shown_to_nobody() -> None:
    config = parse(environment={"registry_auth": {"username": "u", "password": "s3cret"}})
    assert "s3cret" not in str(dump_config(config))
    assert "s3cret" not in repr(config)
    assert "s3cret" in config.model_dump_json(context={"reveal": True})
    master = MasterConfig.model_validate(
        {
            "task_container_defaults": {
                "registry_auth": {"password": "s3cret"},
                "environment_variables": ["TOKEN=s3cret"],
            }
        }
    )
    assert "s3cret" not in str(master.masked())
    assert "TOKEN=" in str(master.masked())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("25s", 25), ("1h30m", 5400), ("300ms", 0.3), (7, 7), ("7", 7)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "", "5 s", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_s(text)


SLURM = "{type: slurm, cluster_name: lab, host: login}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resource_manager: {type: pbs}", ["resource_manager", "'slurm'"]),
        ("resource_manager: {type: slurm}", ["host", "required"]),
        ("resource_manager: {hots: x}", ["hots"]),
        (
            "additional_resource_managers: [{resource_manager: {type: agent, cluster_name: b}}]",
            ["only one resource_manager may have the type agent"],
        ),
        (
            (
                f"resource_manager: {{type: slurm, host: a, cluster_name: lab}}\n"
                f"additional_resource_managers: [{{resource_manager: {SLURM}}}]"
            ),
            ["cluster_name of its own"],
        ),
        ("resource_pools: [{pool_name: a}, {pool_name: a}]", ["'a' is there twice"]),
        (
            "resource_pools: [{pool_name: a, provider: {type: hpc, partition: p}}]",
            ["has a provider"],
        ),
        ("resource_manager: {agent_reconnect_wait: soon}", ["agent_reconnect_wait", "duration"]),
    ],
)
def test_settings_that_do_not_fit_together(text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as raised:
        load_config(file_text=text, file_name="master.yaml", flags={})
    for word in words:
        assert word in str(raised.value)


def test_a_launcher_beside_the_agents() -> None:
    text = f"additional_resource_managers: [{{resource_manager: {SLURM}}}]"
    config = load_config(file_text=text, file_name="master.yaml", flags={})
    kinds = [manager.type for manager, _ in config.list_resource_managers()]
    assert kinds == ["agent", "slurm"]


def test_packing_and_unpacking_gives_the_same_files() -> None:
    files = [
        TaskFile(path="a", type=FILE_TYPE, content=bytes(range(256)), mode=0o755, mtime=7),
        TaskFile(path="d/l", type=SYMLINK_TYPE, content=b"../a", mode=0o777, mtime=7),
        TaskFile(path="é\udcff\n", type=FILE_TYPE, content=b"", mode=0o600, mtime=7),
    ]
    check_files(files)
    assert unpack(pack(files)) == files
    assert pack(files)[10:] == pack(files)[10:]


@pytest.mark.parametrize(
    "file",
    [
        TaskFile(path="/abs", type=FILE_TYPE, mode=0o644),
        TaskFile(path="a/../../b", type=FILE_TYPE, mode=0o644),
        TaskFile(path="", type=FILE_TYPE, mode=0o644),
        TaskFile(path="a\0b", type=FILE_TYPE, mode=0o644),
        TaskFile(path="dev", type=ord("3"), mode=0o644),
        TaskFile(path="hard", type=ord("1"), content=b"/etc/passwd", mode=0o644),
        TaskFile(path="link", type=SYMLINK_TYPE, content=b"/etc/passwd", mode=0o644),
        TaskFile(path="d/link", type=SYMLINK_TYPE, content=b"../../up", mode=0o644),
    ],
    ids=["absolute", "climbs", "empty", "nul", "device", "hard", "link", "link up"],
)
def test_files_that_reach_out_are_refused(file: TaskFile) -> None:
    with pytest.raises(BadFile):
        check_files([file])


@pytest.mark.parametrize(("lost", "again"), [(1, True), (LOST_RUNS_LIMIT, False), (0, False)])
def test_a_command_that_never_began_is_started_again(lost: int, again: bool) -> None:
    """With 0 lost runs it was seen to begin, whatever its failure says."""
    failure = Failure(type=FailureType.RESOURCES_ABORTED, message="why")
    end = Outcome(ending=Ending.LOST, reason="reason", failure=failure)
    found = after_run(TaskType.COMMAND, TaskState.ACTIVE, end, lost_runs=lost)
    assert found.runs_again is again


def outcome(ending: Ending) -> Outcome:
    """Make the end of a run."""
    failure = None
    if ending in (Ending.FAILED, Ending.LOST):
        failure = Failure(type=FailureType.TASK_ERROR, message="why")
    return Outcome(ending=ending, reason="reason", failure=failure)


@pytest.mark.parametrize(
    ("task_type", "state", "ending", "lost", "following"),
    [
        ("COMMAND", "ACTIVE", Ending.FINISHED, 0, "COMPLETED"),
        ("COMMAND", "ACTIVE", Ending.FAILED, 0, "ERROR"),
        ("COMMAND", "ACTIVE", Ending.LOST, 1, "ERROR"),
        ("COMMAND", "ACTIVE", Ending.STOPPED, 0, "CANCELED"),
        ("COMMAND", "STOPPING_CANCELED", Ending.STOPPED, 0, "CANCELED"),
        ("GENERIC", "ACTIVE", Ending.FINISHED, 0, "COMPLETED"),
        ("GENERIC", "ACTIVE", Ending.FAILED, 0, "ERROR"),
        ("GENERIC", "ACTIVE", Ending.STOPPED, 0, "again"),
        ("GENERIC", "ACTIVE", Ending.LOST, 1, "again"),
        ("GENERIC", "ACTIVE", Ending.LOST, LOST_RUNS_LIMIT, "ERROR"),
        ("GENERIC", "STOPPING_PAUSED", Ending.STOPPED, 0, "PAUSED"),
        ("GENERIC", "STOPPING_PAUSED", Ending.LOST, 1, "PAUSED"),
        ("GENERIC", "STOPPING_PAUSED", Ending.FINISHED, 0, "COMPLETED"),
        ("GENERIC", "STOPPING_PAUSED", Ending.FAILED, 0, "ERROR"),
        ("GENERIC", "STOPPING_CANCELED", Ending.FINISHED, 0, "CANCELED"),
    ],
)
def test_what_the_end_of_a_run_makes_of_a_task(
    task_type: str, state: str, ending: Ending, lost: int, following: str
) -> None:
    found: Next = after_run(TaskType(task_type), TaskState(state), outcome(ending), lost_runs=lost)
    if following == "again":
        assert (found.state, found.runs_again) == (TaskState.ACTIVE, True)
    else:
        assert (found.state, found.runs_again) == (TaskState(following), False)
