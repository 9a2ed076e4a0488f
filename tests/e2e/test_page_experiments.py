"""Experiments and trials on the page for people, in a real browser."""

from __future__ import annotations

import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Site
from tests.e2e.experiments import create, wait_for_state, wait_for_trial, write_config
from tests.e2e.outside import OutsideTrial, begin_outside_trial
from tests.e2e.pages import assert_no_complaints, enter
from tests.lab.browser import Browser
from tests.lab.processes import wait_until

HOSTILE = "<img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def trials(site: Site) -> list[OutsideTrial]:
    """Three trials of a search outside, each with two validations."""
    first = begin_outside_trial(site.api, {"name": HOSTILE, "labels": [HOSTILE]})
    found = [first, *(add_trial(first, {HOSTILE: number}) for number in (1, 2))]
    for number, trial in enumerate(found, 1):
        trial.validate(1, loss=1 / number, acc=0.5)
        trial.validate(2, loss=0.5 / number, acc=0.75)
    return found


def add_trial(first: OutsideTrial, hparams: dict[str, Any]) -> OutsideTrial:
    """Start one more trial of the same experiment."""
    wish = {"experimentId": first.experiment_id, "hparams": hparams, "unmanaged": True}
    trial = first.api.call("POST", "/api/v1/trials", wish)["trial"]
    first.api.call("POST", f"/api/v1/trials/{trial['id']}/start", {"resume": False})
    return OutsideTrial(first.api, first.experiment_id, trial["id"], trial["taskId"])


def report_hardware(trial: OutsideTrial, name: str, gpu_uuid: str) -> None:
    """Tell of three readings, as an agent does."""
    begin = datetime.now(UTC)
    labels = {
        "trialId": trial.trial_id,
        "name": name,
        "agentId": "agent-a",
        "gpuUuid": gpu_uuid,
        "metricType": "PROFILER_METRIC_TYPE_SYSTEM",
    }
    moments = [(begin + timedelta(seconds=number)).isoformat() for number in range(3)]
    batch = {"labels": labels, "values": [1, 50, 99], "timestamps": moments, "batches": [0, 0, 0]}
    trial.api.call("POST", "/api/v1/trials/profiler/metrics", {"batches": [batch]})


def test_a_trial_is_watched_from_its_first_line_to_its_checkpoint(
    window: Browser, site: Site, tmp_path: Path
) -> None:
    enter(window, site, "determined")
    hparams = {"steps": 10, "pause": 0.3}
    config = write_config(
        tmp_path,
        "python ranks.py",
        name="watched",
        hyperparameters=hparams,
        profiling={"enabled": True},
    )
    number = create(site, config)

    window.click("nav a", text="Experiments")
    window.type("input[name=name]", "watched")
    window.click("td a", text=str(number))
    window.find("#metric option", text="loss")
    window.find(".curve")
    trial_id = wait_for_trial(site.api, number)["id"]
    window.click("td a", text=str(trial_id))
    window.find("#log", text="1 ranks begin after step 0")
    window.find("article[data-metric=loss] .curve")
    window.find("article[data-metric=val] li", text="validation")
    window.click(".checkpoints a", text="Download")
    archive = window.wait_for_file("*-*-*-*-*.tar")
    window.find(".state", text="completed")
    readings = f"/api/v1/trials/{trial_id}/profiler/metrics?labels.name=cpu_util_simple"
    wait_until(lambda: list(site.api.lines(readings)), "what the agent measured", limit_s=60)
    window.click("#hardware summary")
    window.find("article[data-metric=cpu_util_simple] .curve")

    with tarfile.open(archive) as files:
        assert any(name.endswith("step") for name in files.getnames())
    window.open(f"{site.master.url}/det/experiments/{number}/overview")
    window.click("#config summary")
    window.find("#config pre", text="python ranks.py")
    window.click("#code summary")
    window.click("#code button", text="ranks.py")
    window.find("#file", text="Train as one rank")
    window.click("#download-code")
    with tarfile.open(window.wait_for_file(f"experiment-{number}.tar.gz")) as files:
        assert "ranks.py" in files.getnames()
    assert_no_complaints(window)


def test_all_trials_of_a_search_are_drawn_together_while_they_train(
    window: Browser, site: Site, trials: list[OutsideTrial]
) -> None:
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/experiments/{trials[0].experiment_id}")
    window.find(".plot .curve:nth-of-type(3)")

    late = add_trial(trials[0], {"lr": 0.25})
    late.validate(3, loss=4)
    window.find("ul.curves li", text="lr=0.25")
    window.click(f"ul.curves li[data-key='{late.trial_id}'] .sample")
    window.find(".sample[aria-pressed=false]")
    assert window.count(".plot .curve") == 3

    window.type("svg.plot", "\ue014")  # the arrow to the right
    window.find(".tip", text=f"Trial {trials[0].trial_id}: 1 at step 1")
    window.type("svg.plot", "\ue014")
    window.find(".tip", text=f"Trial {trials[0].trial_id}: 0.5 at step 2")
    window.type("#metric", "acc")
    window.find(".plot text", text="0.75")

    window.find("h2", text=HOSTILE)
    assert window.evaluate("document.title") != "taken"
    assert_no_complaints(window)


@pytest.mark.parametrize(
    "values",
    [(1e16, 1e16 + 2), (-1e308, 1e308, 0), (0, 5e-324), ("NaN", 1, "Infinity")],
    ids=str,
)
def test_metrics_of_any_size_are_drawn(
    window: Browser, site: Site, trials: list[OutsideTrial], values: tuple[float | str, ...]
) -> None:
    trial = add_trial(trials[0], {})
    for step, value in enumerate(values):
        trial.validate(step, odd=value)
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/trials/{trial.trial_id}")

    window.find("article[data-metric=odd] .plot text", text="steps")
    assert "NaN" not in str(window.evaluate("document.querySelector('.plot .curve').outerHTML"))
    assert_no_complaints(window)


def test_trials_are_sorted_by_the_heads_of_their_table(
    window: Browser, site: Site, trials: list[OutsideTrial]
) -> None:
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/experiments/{trials[0].experiment_id}")
    head = "button[data-sort=SORT_BY_BEST_VALIDATION_METRIC]"
    first = "tbody tr:first-child td:nth-child(4)"

    window.click(head, text="Best loss")
    window.find(head, text="↓")
    window.click(head, text="Best loss")
    window.find(head, text="↑")
    window.find(first, text="0.16667")


def test_what_the_hardware_did_is_drawn(
    window: Browser, site: Site, trials: list[OutsideTrial]
) -> None:
    for gpu_uuid in ("GPU-1", "GPU-2"):
        report_hardware(trials[0], "gpu_util", gpu_uuid)
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/trials/{trials[0].trial_id}")
    window.click("#hardware summary")

    window.find("article[data-metric=gpu_util] h3", text="GPU")
    window.find("article[data-metric=gpu_util] li", text="agent-a GPU-2")
    assert window.count("article[data-metric=gpu_util] .plot .curve") == 2
    report_hardware(trials[0], "cpu_util_simple", "")
    window.find("article[data-metric=cpu_util_simple] .curve")
    assert_no_complaints(window)


def test_experiments_are_chosen_and_acted_on(window: Browser, site: Site, tmp_path: Path) -> None:
    config = write_config(tmp_path, "sleep 60", name="to be ended")
    number = create(site, config, "--paused")
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/experiments?name=to+be+ended&state=paused")

    window.click(f"#choose-{number}")
    window.click("button[data-verb=kill]", text="Kill")
    window.click("button[data-verb=kill]", text="Press again")
    wait_for_state(site.api, number, "STATE_CANCELED")
    window.find("p", text="There is no such experiment.")
    window.open(f"{site.master.url}/#/experiments?name=to+be+ended")
    window.click(f"#choose-{number}")
    window.click("button[data-verb=archive]")
    window.find("p", text="There is no such experiment.")
    window.click("input[name=archived]")
    window.find("td a", text=str(number))

    assert window.evaluate("location.hash").endswith("archived=1")
    assert_no_complaints(window)


def test_views_fit_on_a_phone(window: Browser, site: Site, trials: list[OutsideTrial]) -> None:
    enter(window, site, "determined")
    views = {
        "/experiments": "td a",
        f"/experiments/{trials[0].experiment_id}": ".plot .curve",
        f"/trials/{trials[0].trial_id}": ".plot .curve",
    }
    found = {}
    window.resize(400, 800)
    for path, content in views.items():
        window.open(f"{site.master.url}/#{path}")
        window.find(content)
        found[path] = window.evaluate("document.body.scrollWidth - document.body.clientWidth")
    window.resize(0, 0)

    assert found == dict.fromkeys(views, 0)


def test_experiments_of_others_cannot_be_chosen(
    window: Browser, site: Site, trials: list[OutsideTrial]
) -> None:
    begin_outside_trial(site.master.login("admin"), {"name": "of the administrator"})
    enter(window, site, "determined")
    window.open(f"{site.master.url}/#/experiments?name=of+the+administrator")

    window.find("td input:disabled")
