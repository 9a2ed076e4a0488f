"""Log lines of the daemons: one formatter, and the ids of the work that a line belongs to.

Only a `__main__` calls `setup_logging`; modules use `logging.getLogger(__name__)`.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

_context: ContextVar[Mapping[str, str] | None] = ContextVar("shipway_log_context", default=None)
_standard = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@contextmanager
def log_context(**ids: str) -> Generator[None]:
    """Add *ids* (`allocation_id`, `container_id`, `dispatch_id`, …) to each line logged inside."""
    token = _context.set({**(_context.get() or {}), **ids})
    try:
        yield
    finally:
        _context.reset(token)


def setup_logging(level: str = "info", log_format: LogFormat = "text") -> None:
    """Send log lines of *level* and above to stderr.

    Raises:
        ValueError: *level* is none of debug, info, warning, error.
    """
    if level.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError(f"log level {level!r}: use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if root.level > logging.DEBUG:  # one line per request is noise unless someone debugs
        logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {key: value for key, value in record.__dict__.items() if key not in _standard}
    return {**(_context.get() or {}), **extra}


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        line = f"{time}Z {record.levelname.lower():7} {record.name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
