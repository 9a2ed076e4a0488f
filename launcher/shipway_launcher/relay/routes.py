"""The REST face: the calls that the relay answers itself, and all others by the way of the master."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from shipway_launcher.relay.calls import Calls
from shipway_launcher.relay.jobs import Job
from shipway_launcher.relay.master import Metadata
from shipway_launcher.relay.messages import (
    all_gather_request,
    log_lines_answer,
    metrics_request,
    notify_request,
    parse_body,
    task_logs_request,
)
from shipway_launcher.relay.passthrough import PassThrough
from shipway_launcher.relay.sending import LargeAnswers
from shipway_launcher.relay.signals import SIGNALS

_THREAD_BYTES = 128 << 10  # a larger body is read in a thread, so that it delays nobody else
_ALLOCATION = "/api/v1/allocations/{allocation_id}"
_of_allocation = re.compile(r"/api/v1/allocations/([^/?]+)")
_newest_line_query = {
    "limit": "1",
    "orderBy": "ORDER_BY_DESC",
    "allocationIds": None,
    "containerIds": None,
    "sources": "task",
}
"""What a sender asks that wants to know how far it came; None: any one value."""

_Handler = Callable[[web.Request, Job, Metadata], Awaitable[web.StreamResponse]]


class Routes:
    """The handlers; see `Calls` for what they do."""

    def __init__(self, calls: Calls, through: PassThrough, large: LargeAnswers) -> None:
        self._calls, self._through, self._large = calls, through, large

    def add_to(self, app: web.Application) -> None:
        """Register the handlers; as the master does, ignore one slash at the end of a path."""
        for verb, path, handler in (
            (hdrs.METH_POST, "/api/v1/task/logs", self._task_logs),
            (hdrs.METH_POST, "/api/v1/trials/profiler/metrics", self._metrics),
            *(
                (hdrs.METH_POST, f"{_ALLOCATION}/{path}", self._signal(rpc))
                for rpc, path in SIGNALS.items()
            ),
            (hdrs.METH_POST, f"{_ALLOCATION}/notify_container_running", self._notify_running),
            (hdrs.METH_POST, f"{_ALLOCATION}/all_gather", self._all_gather),
            (hdrs.METH_GET, "/api/v1/tasks/{task_id}/logs", self._newest_line),
        ):
            for spelling in (path, path + "/"):
                app.router.add_route(verb, spelling, self._for_own_jobs(handler))
        app.router.add_route("*", "/{path:.*}", self._pass)

    def _for_own_jobs(
        self, handler: _Handler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            metadata = _find_token(request.headers)
            job = None if metadata is None else self._calls.find_job(metadata)
            if job is None or metadata is None:
                return await self._through.handle(request)
            return await handler(request, job, metadata)

        return handle

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        # As loosely as any master may read a path, lest an odd spelling slips through.
        path = re.sub("//+", "/", unquote(request.raw_path))
        spoken_for = _of_allocation.match(path)
        if spoken_for is not None and request.method != hdrs.METH_GET:
            metadata = _find_token(request.headers)
            job = None if metadata is None else self._calls.find_job(metadata)
            if job is not None:
                job.check_allocation(spoken_for.group(1))
        return await self._through.handle(request)

    async def _task_logs(
        self, request: web.Request, job: Job, metadata: Metadata
    ) -> web.StreamResponse:
        body = await request.read()
        is_large = len(body) > _THREAD_BYTES
        logs = (
            await asyncio.to_thread(task_logs_request, parse_body(body))
            if is_large
            else task_logs_request(parse_body(body))
        )
        await self._calls.post_logs(job, metadata, logs)
        return web.json_response({})

    async def _metrics(
        self, request: web.Request, job: Job, metadata: Metadata
    ) -> web.StreamResponse:
        body = await request.read()
        metrics = await asyncio.to_thread(lambda: metrics_request(parse_body(body)))
        await self._calls.post_metrics(job, metadata, metrics)
        return web.json_response({})

    def _signal(self, rpc: str) -> _Handler:
        async def handle(request: web.Request, job: Job, metadata: Metadata) -> web.StreamResponse:
            allocation_id = request.match_info["allocation_id"]
            await self._calls.signal(job, metadata, rpc, allocation_id)
            return web.json_response({})

        return handle

    async def _notify_running(
        self, request: web.Request, job: Job, metadata: Metadata
    ) -> web.StreamResponse:
        body = parse_body(await request.read())
        notice = notify_request(request.match_info["allocation_id"], body)
        await self._calls.notify_running(job, metadata, notice)
        return web.json_response({"data": []})

    async def _all_gather(
        self, request: web.Request, job: Job, metadata: Metadata
    ) -> web.StreamResponse:
        """Block until all peers have called; the caller's leaving cancels this handler."""
        body = parse_body(await request.read())
        gather = all_gather_request(request.match_info["allocation_id"], body)
        answer = await self._calls.all_gather(job, metadata, gather)
        return await self._large.send_json(request, await self._large.json_of(answer))

    async def _newest_line(
        self, request: web.Request, job: Job, metadata: Metadata
    ) -> web.StreamResponse:
        """Tell a sender how far it came; other questions about logs are the master's to answer."""
        query = request.query
        is_it = len(query) == len(_newest_line_query) and all(
            name in query and value in {None, query[name]}
            for name, value in _newest_line_query.items()
        )
        if is_it and query["allocationIds"] == job.allocation_id:
            line = await self._calls.newest_line(job, metadata, query["containerIds"])
            if line is not None and line.task_id == request.match_info["task_id"]:
                return web.Response(body=log_lines_answer(line), content_type="application/json")
        return await self._through.handle(request)


def _find_token(headers: CIMultiDictProxy[str]) -> Metadata | None:
    """Find the caller's token, in the order in which the master looks for one."""
    for header, name in (
        ("Grpc-Metadata-x-user-token", "x-user-token"),
        ("Authorization", "x-user-token"),
        ("Grpc-Metadata-x-allocation-token", "x-allocation-token"),
    ):
        value = headers.get(header)
        if value is not None:
            return ((name, value),)
    return None
