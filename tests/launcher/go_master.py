"""A client that behaves as Determined's Go master 0.38.1 does towards a launcher."""

from __future__ import annotations

import getpass
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tests.launcher.manifests import make_query

ME = getpass.getuser()
FINAL = {"TERMINATED", "COMPLETED", "FAILED", "MISSING"}
STATES = {"UNKNOWN", "PENDING", "RUNNING", "TERMINATING", *FINAL}

_IGNORED_REPORTER = "com.cray.analytics.capsules.dispatcher.shasta.ShastaDispatcher"
_FILTERS = (
    r"com\.cray\.analytics\.capsules\.carriers\.hpc\.\S+ - (?:Slurm|Pbs|PBS) job is in a (.*)",
    r"(Slurm job is in a .*)",
    r"(?:Slurm|Pbs|PBS) job process terminated with exit code \d+:\n*(.*)",
)


class Refused(Exception):
    """The launcher answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:1000]!r}")
        self.status, self.body = status, body

    @property
    def task_log_text(self) -> str:
        """What the master shows to the user of a launch that ended like this."""
        if self.status not in (400, 500):
            return str(self.status)
        detail = json.loads(self.body)["detail"]
        assert "%" not in detail, "the master uses the detail as a format string"
        return "\n".join(_filter([detail]))


@dataclass
class Job:
    """What the master keeps of one job."""

    owner: str
    dispatch_id: str
    payload: str
    job_id: str | None = None
    is_terminated: bool = False
    task_log: list[str] = field(default_factory=list)


class GoMaster:
    """Calls the launcher as the generated client does, and is as particular about the answers."""

    def __init__(self, url: str, token_file: Path) -> None:
        self._url, self._token_file = url, token_file
        version = self._call("GET", "/info/version/server").decode()
        assert re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", version), version
        assert tuple(map(int, version.lstrip("v").split("."))) >= (3, 3, 1)

    def launch(self, manifest: Mapping[str, Any], dispatch_id: str, user: str = ME) -> Job:
        """Launch a job; raises Refused."""
        path = f"/launch?dispatchId={quote(dispatch_id, safe='')}&impersonate={user}"
        info = _decode(self._call("PUT", path, manifest, expected=201))
        assert info["dispatchId"] == dispatch_id
        return Job(
            owner=info["launchingUser"],
            dispatch_id=dispatch_id,
            payload=manifest["payloads"][0]["name"],
        )

    def adopt(self, dispatch_id: str, user: str = ME) -> Job:
        """Take up a job of which only the id and the owner are known, as after a restart."""
        path = f"/monitoring/{user}/environments/{dispatch_id}"
        payload = json.loads(self._call("GET", path))["payloads"][0]["name"]
        return Job(owner=user, dispatch_id=dispatch_id, payload=payload)

    def query(self, purpose: str) -> Any:
        """Ask for `Resources` or `Queues` with the four calls."""
        info = _decode(self._call("PUT", "/launch?impersonate=", make_query(purpose), expected=201))
        owner, name = info["launchingUser"], info["dispatchId"]
        log = {"Resources": "slurm-resources-info", "Queues": "slurm-queue-info"}[purpose]
        text = self._call("GET", f"/monitoring/{owner}/environments/{name}/logs/{log}")
        self._call("DELETE", f"/running/{owner}/environments/{name}?force=true", expected=202)
        self._call("DELETE", f"/monitoring/{owner}/environments/{name}/management", expected=204)
        return yaml.safe_load(text)

    def poll(self, job: Job) -> str:
        """Do one round of the monitor loop for a job and return its state.

        A 404 reads `lost`. When the state is final, the task's log has got its entry.
        """
        queued = self.query("Queues").get(job.job_id) if job.job_id else None
        if queued is not None and not job.is_terminated:
            word = queued["state"].lower()
            if word in ("pd", "pending"):
                line = f"HPC job waiting to be scheduled: {queued['reasonDesc']}"
                if line not in job.task_log:
                    job.task_log.append(line)
                return "PENDING"
            if word in ("r", "running"):
                return "RUNNING"
        try:
            info = self.status(job)
        except Refused as error:
            if error.status == 404:
                return "lost"
            raise
        if info["state"] in FINAL:
            job.task_log.append(self._exit_message(job, info))
            return str(info["state"])
        job_id = info.get("additionalProperties", {}).get("job-id")
        if isinstance(job_id, str) and job.job_id is None:
            job.job_id = job_id
            job.task_log.append(f"HPC Job ID: {job_id}")
        return str(info["state"])

    def wait(self, job: Job, *states: str, limit_s: float = 60) -> str:
        """Poll until the job is in one of *states* (any final one if none is given)."""
        deadline = time.monotonic() + limit_s
        while (state := self.poll(job)) not in (states or FINAL):
            assert state not in FINAL, f"{state}: {job.task_log}"
            assert time.monotonic() < deadline, f"{job.dispatch_id} is {state}, not {states}"
            time.sleep(0.2)
        return state

    def status(self, job: Job) -> dict[str, Any]:
        path = f"/monitoring/{job.owner}/environments/{job.dispatch_id}/status?refresh=true"
        return _decode(self._call("GET", path))

    def kill(self, job: Job) -> None:
        path = f"/running/{job.owner}/environments/{job.dispatch_id}?force=true"
        try:
            self._call("DELETE", path, expected=202)
        except Refused as error:
            if error.status != 404:
                raise
        job.is_terminated = True

    def delete(self, job: Job) -> None:
        path = f"/monitoring/{job.owner}/environments/{job.dispatch_id}/management"
        try:
            self._call("DELETE", path, expected=204)
        except Refused as error:
            if error.status != 404:
                raise

    def log(self, job: Job, name: str, *, last_lines: int | None = None) -> bytes:
        path = f"/monitoring/{job.owner}/environments/{job.dispatch_id}/logs/{job.payload}-{name}"
        headers = {"Range": f"lines=-{last_lines}"} if last_lines else {}
        return self._call("GET", path, headers=headers)

    def manifest(self, job: Job) -> bytes:
        return self._call("GET", f"/monitoring/{job.owner}/environments/{job.dispatch_id}")

    def sweep(self) -> list[str]:
        """List as 15 minutes after the start; every entry needs what the sweep dereferences."""
        found: list[str] = []
        for path in ("/running?eventLimit=0", "/terminated?eventLimit=0"):
            for info in json.loads(self._call("GET", path))["data"]:
                assert info["state"] in STATES
                assert info["launchedCapsuleReference"]["owner"]
                assert info["events"] == []
                found.append(info["dispatchId"])
        return found

    def _exit_message(self, job: Job, info: Mapping[str, Any]) -> str:
        messages = [
            event["message"]
            for event in info["events"]
            if event["level"] in ("WARNING", "ERROR") and event["reporter"] != _IGNORED_REPORTER
        ]
        text = "\n".join(_filter(messages))
        if info["state"] != "COMPLETED":
            text += self.log(job, "error.log", last_lines=500).decode("utf-8", "replace")
        return text

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        expected: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        data = _encode(body) if isinstance(body, Mapping) else body
        request = urllib.request.Request(f"{self._url}{path}", method=method, data=data)
        # Go refuses to send a header with a line end, so the file must hold the token alone.
        token = self._token_file.read_text()
        assert "\n" not in token
        sent = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "OpenAPI-Generator/1.0.0/go",
        }
        for name, value in {**sent, **(headers or {})}.items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                if expected is not None:
                    assert answer.status == expected, f"{method} {path}: {answer.status}"
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read()) from None


def _encode(body: Mapping[str, Any]) -> bytes:
    """Write JSON as Go does: `<`, `>` and `&` escaped, no other ASCII escapes."""
    text = json.dumps(body, ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "surrogatepass")


def _decode(body: bytes) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(body)
    assert info["state"] in STATES, info
    return info


def _filter(messages: list[str]) -> list[str]:
    captured = [
        match.group(1)
        for message in messages
        for pattern in _FILTERS
        if (match := re.search(pattern, message, re.DOTALL))
    ]
    return captured or messages
