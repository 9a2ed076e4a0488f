"""Logs over REST, of real jobs: parts, conditions, emptying."""

from __future__ import annotations

import http.client
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lab.processes import wait_until
from tests.launcher.api.calling import Answer
from tests.launcher.api.jobs import PAYLOAD
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest

TEN = b"".join(b"line %d\n" % number for number in range(1, 11))


@dataclass
class JobLog:
    """Where the logs of a job that has ended are."""

    rest: Rest
    environment: str
    name: str

    def path(self, name: str = "output.log") -> str:
        return f"{self.environment}/logs/{PAYLOAD}-{name}"

    def __call__(self, name: str = "output.log", **headers: str) -> Answer:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.rest("GET", self.path(name), headers=sent)


@pytest.fixture(scope="module")
def log(rest: Rest) -> Iterator[JobLog]:
    """The logs of a job that wrote ten lines, some time ago."""
    words = ["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done"]
    answer = rest("PUT", "/launch?impersonate=&dispatchId=logs.1", make_manifest(words))
    environment = f"/monitoring/{json.loads(answer.body)['launchingUser']}/environments/logs.1"
    wait_until(
        lambda: rest.json(f"{environment}/status?refresh=true")["state"] == "COMPLETED",
        "the job completes",
        limit_s=60,
    )
    # What has changed within the last seconds may change again within the same second.
    found = JobLog(rest, environment, "logs.1")
    date = found().headers["Last-Modified"]
    wait_until(lambda: found(If_Modified_Since=date).status == 304, "the log rests", limit_s=60)
    yield found
    rest("DELETE", f"{environment}/management")


def test_the_whole_log(log: JobLog) -> None:
    answer = log()
    assert (answer.status, answer.kind, answer.body) == (200, "application/octet-stream", TEN)
    assert answer.headers["Accept-Ranges"] == "bytes, lines"
    assert parsedate_to_datetime(answer.headers["Last-Modified"]).tzinfo is not None
    assert re.fullmatch(r'"[!-~]+"', answer.headers["ETag"])


@pytest.mark.parametrize(
    ("wanted", "status", "shown", "body"),
    [
        ("bytes=0-5", 206, "bytes 0-5/71", b"line 1"),
        ("bytes=-3", 206, "bytes 68-70/71", b"10\n"),
        ("bytes=64-", 206, "bytes 64-70/71", TEN[64:]),
        ("bytes=64-9999", 206, "bytes 64-70/71", TEN[64:]),
        ("bytes=0-", 200, None, TEN),
        ("bytes=-9999", 200, None, TEN),
        ("lines=1-1", 206, "lines 1-1/*", b"line 1\n"),
        ("lines=2-3", 206, "lines 2-3/*", b"line 2\nline 3\n"),
        ("lines=10-", 206, "lines 10-10/*", b"line 10\n"),
        ("lines=1-10", 200, None, TEN),
        ("lines=-01", 206, ..., b"line 10\n"),  # the numbers are estimates
        ("Lines=-1", 206, ..., b"line 10\n"),
        ("lines=-500", 200, None, TEN),
        ("lines=0-3", 200, None, TEN),
        ("lines=3-2", 200, None, TEN),
        ("lines=1-2,4-5", 200, None, TEN),
        ("bytes=0-1, 3-4", 200, None, TEN),
        ("words=1-2", 200, None, TEN),
        ("lines=\u0661-\u0662", 200, None, TEN),
        ("lines=-" + "9" * 5000, 200, None, TEN),
        ("bytes=-" + "9" * 5000, 200, None, TEN),
        ("bytes=0-" + "9" * 5000, 200, None, TEN),
        ("bytes=71-", 416, "bytes */71", None),
        ("lines=11-", 416, "bytes */71", None),
        ("lines=" + "9" * 5000 + "-", 416, "bytes */71", None),
        ("bytes=" + "9" * 5000 + "-", 416, "bytes */71", None),
    ],
    ids=itertools.count(),
)
def test_parts(log: JobLog, wanted: str, status: int, shown: Any, body: bytes | None) -> None:
    answer = log(Range=wanted.encode().decode("latin-1"))
    assert answer.status == status
    assert shown is ... or answer.headers.get("Content-Range") == shown
    if body is not None:
        assert answer.body == body


def test_a_log_without_lines_is_empty_and_there(log: JobLog) -> None:
    assert log("error.log").body == b""
    for wanted in ("lines=-500", "bytes=5-", "lines=1-1"):
        answer = log("error.log", Range=wanted)
        assert (answer.status, answer.body) == (200, b"")


def test_only_what_has_changed(log: JobLog) -> None:
    first = log()
    date, tag = first.headers["Last-Modified"], first.headers["ETag"]
    earlier = format_datetime(parsedate_to_datetime(date) - timedelta(seconds=5), usegmt=True)
    for known in ({"If_Modified_Since": date}, {"If_None_Match": tag}, {"If_None_Match": "*"}):
        answer = log(**known)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == tag
    assert log(If_None_Match=f'"other", W/{tag}').status == 304
    assert log(If_Modified_Since=earlier).status == 200
    assert log(If_None_Match='"other"', If_Modified_Since=date).status == 200
    assert log(If_Modified_Since="yesterday").status == 200


def test_only_what_has_not_changed(log: JobLog) -> None:
    first = log()
    date, tag = first.headers["Last-Modified"], first.headers["ETag"]
    earlier = format_datetime(parsedate_to_datetime(date) - timedelta(seconds=5), usegmt=True)
    assert log(If_Unmodified_Since=date).status == 200
    assert log(If_Unmodified_Since="yesterday").status == 200
    assert log(If_Match=tag).status == 200
    assert log(If_Match="*").status == 200
    assert log(If_Unmodified_Since=earlier).status == 412
    assert log(If_Match='"other"').status == 412
    assert log(If_Match=f"W/{tag}").status == 412, "a weak tag is never the same"


def test_a_part_of_the_state_that_is_known(log: JobLog) -> None:
    first = log()
    date, tag = first.headers["Last-Modified"], first.headers["ETag"]
    earlier = format_datetime(parsedate_to_datetime(date) - timedelta(seconds=5), usegmt=True)
    for state in (date, tag):
        assert log(Range="lines=2-2", If_Range=state).body == b"line 2\n"
    for state in (earlier, '"other"', f"W/{tag}", "nonsense"):
        answer = log(Range="lines=2-2", If_Range=state)
        assert (answer.status, answer.body) == (200, TEN)


def test_a_look_without_the_log(log: JobLog) -> None:
    parts = urlsplit(log.rest.url)
    assert parts.hostname is not None
    link = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    headers = {"Authorization": f"Bearer {log.rest.token}"}
    for method, body in (("HEAD", b""), ("GET", TEN)):  # one link: nothing is left over in it
        link.request(method, log.path(), headers=headers)
        with link.getresponse() as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "71")
            assert answer.read() == body
    link.close()


def test_which_logs_there_are(log: JobLog) -> None:
    sources = log.rest.json(f"{log.environment}/logs")[PAYLOAD]
    found = {source["name"].removeprefix(f"{PAYLOAD}-"): source for source in sources}
    assert {"output.log", "error.log", "job.sh"} <= set(found), "and what sbatch said, if anything"
    assert found["output.log"]["length"] == len(TEN)
    assert log("job.sh").body.startswith(b"#!")
    assert log("submission.log").status == 200
    for name in ("..", "exit", "task.json", "%2e%2e%2ftask.json", "output.log/x"):
        assert log(name).status == 404


def test_a_log_is_emptied_and_not_removed(
    rest: Rest, new_id: Callable[[], str], user: str, tmp_path: Path
) -> None:
    name = new_id()
    go_on = tmp_path / "go-on"
    words = ["/bin/sh", "-c", f"echo one; while [ ! -e {go_on} ]; do sleep 0.1; done; echo two"]
    mount = {"name": "ds0", "source": str(tmp_path), "target": str(tmp_path), "readOnly": False}
    rest("PUT", f"/launch?impersonate=&dispatchId={name}", make_manifest(words, data=[mount]))
    log = JobLog(rest, f"/monitoring/{user}/environments/{name}", name)
    wait_until(lambda: log().body == b"one\n", "the job has begun", limit_s=60)
    assert rest("DELETE", log.path()).status == 204
    assert (log().status, log().body) == (200, b"")
    go_on.touch()
    wait_until(lambda: log().body == b"two\n", "the job goes on", limit_s=60)
    assert rest("DELETE", f"{log.environment}/logs").status == 204
    assert [log(kind).body for kind in ("output.log", "error.log", "submission.log")] == [b""] * 3
    assert rest("DELETE", log.path("nothing")).status == 404
    assert rest("DELETE", f"{log.environment}/management").status == 204
