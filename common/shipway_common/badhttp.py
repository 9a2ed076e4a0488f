"""The web server's own log, in which callers that do not speak HTTP are no errors of ours."""

from __future__ import annotations

import logging

from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import HttpProcessingError


def _blame_caller(record: logging.LogRecord) -> bool:
    """Make a debug line of what the server would log with a traceback, for anybody who asks."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(
        error, HttpProcessingError | web.RequestPayloadError | ClientConnectionResetError
    ):
        return True
    record.exc_info = None
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    record.msg, record.args = "a request is no HTTP: %s", (" ".join(str(error).split())[:200],)
    return server_log.isEnabledFor(logging.DEBUG)


server_log = logging.getLogger(__name__)
server_log.addFilter(_blame_caller)
