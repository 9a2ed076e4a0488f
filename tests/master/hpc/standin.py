"""A launcher as its contract has it, with jobs that a test moves by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.lab.processes import free_ports

RESOURCES = """
partitions:
- partitionName: gpu
  default: true
  totalNodes: 2
  totalAvailableNodes: 2
  totalAllocatedNodes: 0
  totalGpuSlots: 8
  totalAvailableGpuSlots: 8
  totalCpuSlots: 16
  totalAvailableCpuSlots: 16
  accelerator: ""
nodes:
- {name: n1, partitions: [gpu], addresses: [10.0.0.1], gpuCount: 4, gpuInUseCount: 1, cpuCount: 8}
- {name: n2, partitions: [gpu], addresses: [10.0.0.2], gpuCount: 4, draining: true, cpuCount: 8}
"""


@dataclass
class Job:
    """One dispatch."""

    id: str
    owner: str
    manifest: dict[str, Any]
    number: int
    state: str = "PENDING"
    queue_state: str | None = "PENDING"
    """What the queue file says; None: not in it."""
    reason: tuple[str, str] = ("None", "")
    messages: list[str] = field(default_factory=list)
    error_log: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the manifest."""
        found: dict[str, str] = self.manifest["payloads"][0]["launchParameters"]["environment"]
        return found

    def info(self) -> dict[str, Any]:
        """The DispatchInfo."""
        return {
            "launchedCapsuleReference": {"owner": self.owner, "name": "det", "version": "unknown"},
            "launchingUser": self.owner,
            "dispatchId": self.id,
            "state": self.state,
            "events": [
                {
                    "level": "ERROR",
                    "timestamp": "2026-01-01T00:00:00Z",
                    "reporter": "r",
                    "message": m,
                }
                for m in self.messages
            ],
            "additionalProperties": {"job-id": str(self.number)},
        }

    def run(self) -> None:
        """Slurm starts the job."""
        self.state = self.queue_state = "RUNNING"

    def end(self, state: str = "COMPLETED", *messages: str, error_log: str = "") -> None:
        """The job is over."""
        self.state, self.queue_state = state, None
        self.messages, self.error_log = list(messages), error_log


class StandInLauncher:
    """The launcher; it remembers every call."""

    def __init__(self, token_file: Path) -> None:
        self.token_file = token_file
        self.token = "token-1"
        token_file.write_text(self.token)
        self.jobs: dict[str, Job] = {}
        self.calls: list[tuple[str, str]] = []
        self.launches: list[str] = []
        self.terminated: list[str] = []
        [self.port] = free_ports(1)  # nobody gets it while it is stopped
        self.refuse: tuple[int, Any] | None = None
        """Status and body for the next launches of jobs."""
        self.lose_answers = False
        """Launch jobs, and cut the connection instead of answering."""
        self.ends_at_once: Sequence[str] = ()
        """State and messages with which the next jobs end before anybody looks."""
        self.drop_launches = False
        """Cut the connection and launch nothing."""
        self._queries: dict[str, str] = {}
        self._runner: web.AppRunner | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve, on the same port each time."""
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        try:
            yield
        finally:
            await self._runner.cleanup()

    def config(self, **changes: Any) -> dict[str, Any]:
        """Settings of a master that uses it."""
        return {
            "type": "slurm",
            "cluster_name": "lab",
            "host": "127.0.0.1",
            "port": self.port,
            "auth_file": str(self.token_file),
            "container_run_type": "sandbox",
            "user_name": "launcher",
            "queue_interval": 0.05,
            "resources_interval": 0.5,
            "lost_after": 2,
            **changes,
        }

    @property
    def job(self) -> Job:
        """The newest job."""
        return list(self.jobs.values())[-1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        verb, path = request.method, request.path
        self.calls.append((verb, path))
        if path == "/info/version/server":
            return web.Response(text="3.3.7")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if verb == "PUT" and path == "/launch":
            return await self._launch(request)
        parts = path.strip("/").split("/")
        if verb == "GET" and path in ("/running", "/terminated"):
            assert request.query["eventLimit"] == "0"
            found = [{**job.info(), "events": []} for job in self.jobs.values()]
            return web.json_response({"data": found})
        if verb == "GET" and "logs" in parts:
            return self._log(parts[3], parts[5], request.headers.get("Range"))
        job = self.jobs.get(parts[3]) if parts[1:] and parts[3:] else None
        if job is not None and parts[1] != job.owner:
            return web.Response(status=404)
        if verb == "DELETE" and parts[0] == "running":
            assert request.query["force"] == "true"
            if job is not None and job.state in ("PENDING", "RUNNING"):
                self.terminated.append(job.id)
                job.state, job.queue_state = "TERMINATING", None
            return web.Response(status=202 if parts[3] in self._queries or job else 404)
        if verb == "DELETE" and parts[-1] == "management":
            known = self._queries.pop(parts[3], None) or self.jobs.pop(parts[3], None)
            return web.Response(status=204 if known else 404)
        if job is None:
            return web.Response(status=404)
        assert (verb, parts[-1], request.query["refresh"]) == ("GET", "status", "true")
        return web.json_response(job.info())

    async def _launch(self, request: web.Request) -> web.StreamResponse:
        manifest = json.loads(await request.read())
        name = manifest["clientMetadata"]["name"]
        if name != "det":
            query_id = f"query-{len(self.calls)}"
            self._queries[query_id] = name
            info = {"dispatchId": query_id, "launchingUser": "launcher", "state": "COMPLETED"}
            return web.json_response(info, status=201)
        dispatch_id, user = request.query["dispatchId"], request.query["impersonate"]
        self.launches.append(dispatch_id)
        if self.refuse is not None:
            status, body = self.refuse
            if isinstance(body, str):
                return web.Response(status=status, text=body)
            return web.json_response(body, status=status, content_type="application/problem+json")
        assert dispatch_id not in self.jobs, "launched twice"
        if self.drop_launches:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        number = 100 + len(self.launches)
        job = Job(id=dispatch_id, owner=user or "launcher", manifest=manifest, number=number)
        self.jobs[dispatch_id] = job
        if self.ends_at_once:
            job.end(*self.ends_at_once)
        if self.lose_answers:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(job.info(), status=201)

    def _log(self, dispatch_id: str, name: str, wanted: str | None) -> web.Response:
        if name == "slurm-resources-info":
            return web.Response(text=RESOURCES)
        if name == "slurm-queue-info":
            return web.Response(text=json.dumps(self._queue()))
        job = self.jobs.get(dispatch_id)
        if job is None or not job.error_log:
            return web.Response(status=404)
        assert wanted == "lines=-500"
        assert name == job.manifest["payloads"][0]["name"] + "-error.log"
        return web.Response(text=job.error_log)

    def _queue(self) -> dict[str, dict[str, str]]:
        return {
            str(job.number): {
                "state": job.queue_state,
                "name": "det",
                "partition": "gpu",
                "reasonCode": job.reason[0],
                "reasonDesc": job.reason[1],
            }
            for job in self.jobs.values()
            if job.queue_state is not None
        }
