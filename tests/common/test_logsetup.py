"""A log line carries the ids of its work, in both formats."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway_common.logsetup import log_context, say_error, setup_logging


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_a_json_line_has_message_fields_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "json")
    with log_context(dispatch_id="d.1"):
        logging.getLogger("x").info("job %s", "submitted", extra={"job_id": "7"})
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "job submitted"
    assert (line["dispatch_id"], line["job_id"], line["level"]) == ("d.1", "7", "info")


def test_the_context_ends_with_its_block(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "text")
    with log_context(container_id="c"):
        pass
    logging.getLogger("x").warning("quiet")
    assert "container_id" not in capsys.readouterr().err


def test_in_the_journal_each_line_has_its_priority_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        monkeypatch.setattr("sys.stderr", stream)
        setup_logging("debug", "text")
        logging.getLogger("x").debug("a")
        logging.getLogger("x").warning("b")
        try:
            raise RuntimeError("c")
        except RuntimeError:
            logging.getLogger("x").exception("d")
        say_error("e\nf")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines[:3] == ["<7>debug   x: a", "<4>warning x: b", "<3>error   x: d"]
    assert lines[-3:] == ["<3>RuntimeError: c", "<3>e", "<3>f"]
    assert all(line.startswith("<3>") for line in lines[2:])


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        setup_logging("loud")
