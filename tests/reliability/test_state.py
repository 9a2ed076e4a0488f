"""The agent's state folder is damaged, foreign or shared; two agents have one id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.processes import wait_until
from tests.lab.shipway import Agent
from tests.reliability.site import PROMPT, Site


def _cut_short(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _make_foreign(file: Path) -> None:
    file.write_bytes(b"\x7fELF\0\xff not ours\n" * 50)


def _make_other_json(file: Path) -> None:
    file.write_text(json.dumps(["version", 1, {"state": None}]))


def _make_newer(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 999}))


DAMAGES = [_cut_short, _empty, _make_foreign, _make_other_json, _make_newer]


@pytest.mark.parametrize("name", ["sandbox", "docker"])
def test_damaged_records_cost_their_own_container_at_most(site: Site, name: str) -> None:
    """The agent starts, says which file it is, keeps the others' tasks, and leaves nothing."""
    agent = site.agents[name]
    records: dict[Path, Callable[[Path], None]] = {}
    works = []
    for damage in DAMAGES:
        before = set((agent.state / "containers").glob("*.json"))
        works.append(site.submit(name, exit_code=4))
        works[-1].wait_for_line(10)
        (record,) = set((agent.state / "containers").glob("*.json")) - before
        records[record] = damage
    sound = site.submit(name, exit_code=3)
    sound.wait_for_line(10)
    agent.kill()
    for record, make in records.items():
        make(record)
    seen = len(agent.log.read_text())
    agent.launch()
    for work in (*works, sound):
        work.let_end()
    for work in works:
        work.check_cut_short("output is missing from here on")
    sound.check_done()
    for record in records:
        assert record.name in agent.log.read_text()[seen:]
    site.check_usable(name)


def test_files_that_are_none_of_ours(site: Site) -> None:
    """Left-over and foreign files in the state folder do no harm; only ours are removed."""
    agent = site.agents["sandbox"]
    agent.stop()
    folder = agent.state / "containers"
    (folder / ".abc.json.k3jd_9x2").write_text("half a rec")
    (folder / "README").write_text("mine\n")
    (agent.state / "sandbox/.removed-1234").mkdir()
    (agent.state / "sandbox/lost+found").mkdir()
    agent.launch()
    site.wait_until_free("sandbox")
    wait_until(lambda: not (folder / ".abc.json.k3jd_9x2").exists(), "removed", limit_s=60)
    assert (folder / "README").read_text() == "mine\n"
    (folder / "README").unlink()
    (agent.state / "sandbox/lost+found").rmdir()
    site.check_usable("sandbox")


def test_a_second_agent_of_the_same_id_is_told_who_the_first_is(site: Site) -> None:
    """It has its own state folder, as on another machine; the first one is not disturbed."""
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(10)
    second_folder = site.folder / "second"
    second_folder.mkdir()
    second = Agent(second_folder, site.master, agent_id="sandbox", pool="sandbox", config=PROMPT)
    second.launch()
    try:
        wait_until(
            lambda: "already connected" in second.log.read_text(),
            "the second is told",
            limit_s=60,
            logs=second.tail,
        )
        work.wait_for_more_lines()
    finally:
        second.stop()
    work.let_end()
    work.check_done()
    site.check_usable("sandbox")


def test_one_state_folder_serves_one_agent(site: Site) -> None:
    """A second one on the same folder ends at once and says why."""
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(10)
    second = site.make_double("sandbox", agent_id="other")
    second.launch()
    assert second.wait_for_exit() != 0
    assert str(site.agents["sandbox"].state) in second.log.read_text()
    work.let_end()
    work.check_done()
    site.check_usable("sandbox")


def test_an_agent_of_another_id_leaves_the_former_ones_tasks_alone(site: Site) -> None:
    """Somebody renames an agent, sees the mistake, and names it back: the task is still there."""
    work = site.submit("sandbox", exit_code=3)
    work.wait_for_line(10)
    site.agents["sandbox"].stop()
    other = site.make_double("sandbox", agent_id="other")
    other.launch()
    wait_until(lambda: site.agent("other"), "other is there", limit_s=60, logs=other.tail)
    other.stop()
    site.agents["sandbox"].launch()
    work.wait_for_more_lines()
    work.let_end()
    work.check_done()
    site.check_usable("sandbox")
