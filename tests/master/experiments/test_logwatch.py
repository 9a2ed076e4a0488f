"""Log policies are found in lines as they are stored."""

from __future__ import annotations

import pytest

from shipway_master.experiments.logwatch import LogWatch
from shipway_master.logbook import LogLine
from shipway_master.tasks.logpolicy import LogPolicy

OOM = LogPolicy(name="oom", pattern=".*out of memory.*", action="cancel_retries")
ECC = LogPolicy(name="ecc", pattern="ECC error [0-9]+$", action="exclude_node")


def line(text: str, *, task: str = "t1", agent: str = "a", source: str = "task") -> LogLine:
    """A line of output."""
    return LogLine(task_id=task, text=text, agent_id=agent, source=source)


@pytest.fixture
def found() -> list[tuple[str, str | None, str | None]]:
    """What was found: task, policy, agent."""
    return []


@pytest.fixture
def watch(found: list[tuple[str, str | None, str | None]]) -> LogWatch:
    """A watch over task t1."""
    watch = LogWatch(lambda task, policy, line: found.append((task, policy.name, line.agent_id)))
    watch.watch("t1", [OOM, ECC])
    return watch


def test_each_line_is_looked_at_alone(watch: LogWatch, found: list[object]) -> None:
    watch.see([line("loss 1\n"), line("CUDA out of memory.\n"), line("ECC error 7\r\n")])
    assert found == [("t1", "oom", "a"), ("t1", "ecc", "a")]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_end_of_a_line_is_that_of_its_text(
    watch: LogWatch, found: list[object], end: str
) -> None:
    watch.see([line(f"loss 1{end}"), line(f"ECC error 7{end}"), line(f"loss 2{end}")])
    assert found == [("t1", "ecc", "a")]


def test_what_spans_two_lines_is_no_match(watch: LogWatch, found: list[object]) -> None:
    watch.see([line("out of\n"), line("memory\n"), line("ECC error 7 corrected\n")])
    assert found == []


def test_a_policy_acts_once_for_each_node_of_a_run(watch: LogWatch, found: list[object]) -> None:
    watch.see([line("ECC error 1\n"), line("ECC error 2\n"), line("ECC error 3\n", agent="b")])
    assert found == [("t1", "ecc", "a"), ("t1", "ecc", "b")]
    watch.watch("t1", [ECC])  # its next run
    watch.see([line("ECC error 4\n")])
    assert found[2:] == [("t1", "ecc", "a")]


def test_other_tasks_and_the_master_s_own_lines_do_not_count(
    watch: LogWatch, found: list[object]
) -> None:
    watch.see([line("out of memory\n", task="t2"), line("out of memory\n", source="master")])
    watch.forget("t1")
    watch.see([line("out of memory\n")])
    assert found == []


def test_anchors_of_a_line_hold_where_many_lines_come(found: list[object]) -> None:
    watch = LogWatch(lambda task, policy, line: found.append(line.text))
    watch.watch("t1", [LogPolicy(name="a", pattern=r"\Aboom\z", action="cancel_retries")])
    watch.see([line("no boom\n"), line("boom\n"), line("boom or not\n")])
    assert found == ["boom\n"]


def test_the_harness_that_prints_the_patterns_is_no_match(
    watch: LogWatch, found: list[object]
) -> None:
    config = '{"log_policies": [{"name": "oom", "pattern": ".*out of memory.*"}]}'
    watch.see([line(f"New trial runner in (container c) on agent a: {config}\n")])
    assert found == []


def test_a_policy_without_a_pattern_is_off(found: list[object]) -> None:
    watch = LogWatch(lambda task, policy, line: found.append(line.text))
    watch.watch("t1", [LogPolicy(name="CUDA OOM")])
    watch.see([line("CUDA OOM\n")])
    assert found == []
