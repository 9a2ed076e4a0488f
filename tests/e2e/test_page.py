"""The page for people, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.pages import assert_no_complaints, enter
from tests.e2e.tasks import fetch_task, wait_for_end, wait_for_log
from tests.e2e.test_det_notebooks import start_notebook
from tests.lab.browser import Browser


def test_a_wrong_password_is_told(window: Browser, site: Site) -> None:
    window.forget()
    window.open(f"{site.master.url}/")
    window.type("input[name=username]", "admin")
    window.type("input[name=password]", "wrong")
    window.click("button[type=submit]")
    window.find("#trouble", text="invalid credentials")


def test_an_administrator_switches_agents_and_slots(window: Browser, site: Site) -> None:
    enter(window, site, "admin")
    agent = "article[data-agent=agent-a]"

    window.click(f"{agent} .actions button", text="Drain")
    window.find(f"{agent} .slot[data-state=draining]")
    window.click(f"{agent} .actions button", text="Enable")
    window.click(f"{agent} .slot[data-state=free]", text="2")
    window.find(f"{agent} .slot:not([data-state=free])", text="2")
    shown = site.admin.run("slot", "list").stdout.splitlines()
    window.click(f"{agent} .slot:not([data-state=free])", text="2")
    window.find(f"{agent} .slot[data-state=free]", text="2")

    assert [line for line in shown if re.search(r"\|\s+2\s+\|\s+False", line)], shown
    assert_no_complaints(window)


def test_a_task_is_watched_and_killed(window: Browser, site: Site) -> None:
    enter(window, site, "determined")
    script = "echo '<b>first</b>'; sleep 1; echo second; sleep 300"
    task_id = site.det.run(
        "cmd", "run", "--detach", "--config", "resources.slots=3", script
    ).stdout.strip()

    window.find("article[data-agent=agent-a] .slot[data-state=busy]", text="0")
    window.click("td a", text=task_id[:8])
    window.find("#log", text="<b>first</b>")
    window.find("#log", text="second")
    window.type("input[type=search]", "second")
    window.find("#log div[hidden]", text="first")
    window.click("#kill")
    wait_for_end(site.api, task_id)
    window.find("#log", text="terminated")
    window.click("nav a", text="Tasks")
    window.find("td", text=task_id[:8])

    assert fetch_task(site.api, task_id)["endTime"]
    assert_no_complaints(window)


def test_who_is_no_administrator_finds_no_switches(window: Browser, site: Site) -> None:
    enter(window, site, "determined")
    window.find("article[data-agent=agent-a] span.slot")
    assert "Drain" not in window.text


def test_a_long_log_is_shown_from_its_end(window: Browser, site: Site, tmp_path: Path) -> None:
    task_id = site.det.run("cmd", "run", "--detach", "seq 30000").stdout.strip()
    wait_for_end(site.api, task_id)
    wait_for_log(site.api, task_id, "terminated")
    enter(window, site, "determined")

    window.open(f"{site.master.url}/#/tasks/{task_id}")

    window.find("#log", text="30000")
    window.find("#log", text="29500")
    window.save_picture(tmp_path / "task.png")
    assert 500 < window.count("#log > div") <= 5000


def test_a_notebook_is_opened_and_ended_from_its_page(window: Browser, site: Site) -> None:
    notebook_id = start_notebook(site, idle_timeout="1h")
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/tasks/{notebook_id}")
    address = window.find("#open", text="Open").get_attribute("href")
    assert address is not None
    window.open(address)
    window.find("body", text="a notebook in")
    window.open(f"{site.master.url}/#/tasks/{notebook_id}")
    window.click("#kill")
    wait_for_end(site.api, notebook_id)
