"""Send a log, or the part of it that was asked for."""

from __future__ import annotations

from aiohttp import web

from shipway_launcher.api.conditions import Verdict, etag_of, judge, last_modified
from shipway_launcher.api.problems import problem
from shipway_launcher.api.ranges import Unsatisfiable, find_span, parse_range
from shipway_launcher.logs import Log, Span, read_span


async def send_log(request: web.Request, log: Log) -> web.StreamResponse:
    """Answer a request for a log."""
    verdict = judge(request.headers, log)
    if verdict is Verdict.UNCHANGED:
        return web.Response(status=304, headers=_headers(log))
    if verdict is Verdict.CHANGED:
        return problem(412, "the log has changed since", headers=_headers(log))
    wanted = parse_range(request.headers.get("Range")) if verdict is Verdict.SEND else None
    try:
        span = await find_span(log, wanted)
    except Unsatisfiable:
        return problem(
            416,
            f"the log has {log.size} bytes and no such part",
            headers={**_headers(log), "Content-Range": f"bytes */{log.size}"},
        )
    is_whole = span.start == 0 and span.end == log.size
    response = web.StreamResponse(status=200 if is_whole else 206, headers=_headers(log))
    response.content_type = "application/octet-stream"
    response.content_length = span.end - span.start
    if not is_whole:
        response.headers["Content-Range"] = _content_range(span, log.size)
    await response.prepare(request)
    if request.method != "HEAD":
        sent = 0
        async for block in read_span(log, span):
            await response.write(block)
            sent += len(block)
        if sent < span.end - span.start and request.transport is not None:
            # It was emptied meanwhile. Who waits for the rest must see that there is none.
            request.transport.close()
    await response.write_eof()
    return response


def _headers(log: Log) -> dict[str, str]:
    headers = {"Accept-Ranges": "bytes, lines", "ETag": etag_of(log), "Cache-Control": "no-cache"}
    if (date := last_modified(log)) is not None:
        headers["Last-Modified"] = date
    return headers


def _content_range(span: Span, size: int) -> str:
    if span.lines is None:
        return f"bytes {span.start}-{span.end - 1}/{size}"
    return f"lines {span.lines[0]}-{span.lines[1]}/*"
