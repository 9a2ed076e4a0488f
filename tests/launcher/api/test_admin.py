"""Levels of a running launcher's log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.lab.folders import new_folder
from tests.lab.shipway import Launcher
from tests.launcher.api.bare import make_launcher
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_query

LEVELS = ["false", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"]
YAML = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
REFUSED = "shipway_launcher.api.problems"
"""Who logs it when a query cannot be answered."""


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher on a machine without Slurm."""
    folder = new_folder("levels")
    daemon = make_launcher(folder)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _as_before(rest: Rest) -> Iterator[None]:
    yield
    rest("PUT", "/admin/log-level", "INFO")


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_set_and_told(rest: Rest, level: str) -> None:
    assert rest("PUT", "/admin/log-level", level).status == 204
    assert rest.json("/admin/log-level") == level
    assert rest.json("/admin/loggers")["root"] == level
    told = rest("GET", "/admin/log-level", headers=YAML)
    assert yaml.safe_load(told.body) == level, "as text, also `false`"
    assert rest("PUT", "/admin/log-level", told.body, headers=YAML).status == 204
    assert rest.json("/admin/loggers/root") == level


@pytest.mark.parametrize(
    ("body", "headers", "level"),
    [
        (b"false", {}, "false"),
        (b"false\n", YAML, "false"),
        (b"DEBUG", YAML, "DEBUG"),
        (b"--- DEBUG\n", {"Content-Type": "text/x-yaml"}, "DEBUG"),
        (b'"DEBUG"', {"Content-Type": "application/json; charset=utf-8"}, "DEBUG"),
    ],
)
def test_ways_to_write_a_level(
    rest: Rest, body: bytes, headers: dict[str, str], level: str
) -> None:
    assert rest("PUT", "/admin/log-level", body, headers=headers).status == 204
    assert rest.json("/admin/log-level") == level


@pytest.mark.parametrize(
    "body", [b"", b"DEBUG", b'"debug"', b'"OFF"', b"true", b"7", b"null", b"[]", b'["INFO"]', b"{}"]
)
@pytest.mark.parametrize("path", ["/admin/log-level", "/admin/loggers/root"])
def test_what_is_no_level(rest: Rest, path: str, body: bytes) -> None:
    answer = rest("PUT", path, body, headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert rest.json("/admin/log-level") == "INFO"


def test_several_at_once_or_none(rest: Rest) -> None:
    before = rest.json("/admin/loggers")
    assert set(before.values()) <= set(LEVELS)
    for wrong in ({REFUSED: "ERROR", "no.such": "INFO"}, {REFUSED: "ERROR", "root": "LOUD"}, []):
        assert rest("PUT", "/admin/loggers", wrong).status == 400
        assert rest.json("/admin/loggers") == before
    assert rest("PUT", "/admin/loggers", {REFUSED: "ERROR", "root": "WARN"}).status == 204
    after = rest.json("/admin/loggers")
    assert (after[REFUSED], after["root"], after["shipway_launcher.tls"]) == (
        "ERROR",
        "WARN",
        "WARN",
    )
    assert rest("PUT", "/admin/loggers", before).status == 204
    assert rest.json("/admin/loggers") == before


def test_a_logger_that_is_none(rest: Rest) -> None:
    for name in ("no.such", "a%0ab", "%2e%2e", "x" * 3000):
        assert rest("GET", f"/admin/loggers/{name}").status == 400
        assert rest("PUT", f"/admin/loggers/{name}", "INFO").status == 400
    assert "no.such" not in rest.json("/admin/loggers")


def test_the_level_decides_what_is_written(rest: Rest, launcher: Launcher) -> None:
    def lines() -> int:
        rest("PUT", "/launch?impersonate=", make_query("Resources"))
        return launcher.log.read_text().count("request failed")

    first = lines()
    assert lines() == first + 1
    assert rest("PUT", f"/admin/loggers/{REFUSED}", "false").status == 204
    assert lines() == first + 1
    assert json.loads(rest("GET", f"/admin/loggers/{REFUSED}").body) == "false"
    launcher.stop()
    launcher.start()
    assert rest.json("/admin/log-level") == "INFO", "as the settings say"
    assert lines() == first + 2
