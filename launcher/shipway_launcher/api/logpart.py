"""Send a log, or the part of it that was asked for."""

from __future__ import annotations

import logging

from aiohttp import web

from shipway_launcher.api.conditions import Verdict, etag_of, judge, last_modified
from shipway_launcher.api.problems import problem
from shipway_launcher.api.ranges import Unsatisfiable, find_span, parse_range
from shipway_launcher.errors import LauncherError
from shipway_launcher.logs import Log, Span, read_span

log = logging.getLogger(__name__)


async def send_log(request: web.Request, source: Log) -> web.StreamResponse:
    """Answer a request for a log."""
    verdict = judge(request.headers, source)
    if verdict is Verdict.UNCHANGED:
        return web.Response(status=304, headers=_headers(source))
    if verdict is Verdict.CHANGED:
        return problem(412, "the log has changed since", headers=_headers(source))
    wanted = parse_range(request.headers.get("Range")) if verdict is Verdict.SEND else None
    try:
        span = await find_span(source, wanted)
    except Unsatisfiable:
        return problem(
            416,
            f"the log has {source.size} bytes and no such part",
            headers={**_headers(source), "Content-Range": f"bytes */{source.size}"},
        )
    return await _send(request, source, span)


async def _send(request: web.Request, source: Log, span: Span) -> web.StreamResponse:
    blocks = read_span(source, span if request.method != "HEAD" else Span(0, 0))
    block = await anext(blocks, None)  # what cannot be read at all is an error, not a short log
    is_whole = span.start == 0 and span.end == source.size
    response = web.StreamResponse(status=200 if is_whole else 206, headers=_headers(source))
    response.content_type = "application/octet-stream"
    response.content_length = span.end - span.start
    if not is_whole:
        response.headers["Content-Range"] = _content_range(span, source.size)
    await response.prepare(request)
    sent = 0
    try:
        while block is not None:
            await response.write(block)
            sent += len(block)
            block = await anext(blocks, None)
    except LauncherError as error:
        log.warning("a log could not be sent to its end: %s", error)
    if sent < span.end - span.start and request.method != "HEAD" and request.transport is not None:
        # It was emptied, or cannot be read any more. Who waits for the rest must see that.
        request.transport.close()
    await response.write_eof()
    return response


def _headers(source: Log) -> dict[str, str]:
    headers = {
        "Accept-Ranges": "bytes, lines",
        "ETag": etag_of(source),
        "Cache-Control": "no-cache",
    }
    if (date := last_modified(source)) is not None:
        headers["Last-Modified"] = date
    return headers


def _content_range(span: Span, size: int) -> str:
    if span.lines is None:
        return f"bytes {span.start}-{span.end - 1}/{size}"
    return f"lines {span.lines[0]}-{span.lines[1]}/*"
