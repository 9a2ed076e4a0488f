"""Log lines of the daemons: one formatter, and the ids of the work that a line belongs to.

Only a `__main__` calls `setup_logging`; modules use `logging.getLogger(__name__)`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

_priorities = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""From levels to those of syslog(3), the most severe first."""

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

    Where stderr is systemd's journal, each line begins with its priority, which the journal takes
    off, and a text has no time, which the journal adds.

    Raises:
        ValueError: *level* is none of debug, info, warning, error.
    """
    if level.lower() not in {"debug", "info", "warning", "error"}:
        raise ValueError(f"log level {level!r}: use debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    in_journal = _is_journal(sys.stderr.fileno)
    formatter = (
        _JsonFormatter() if log_format == "json" else _TextFormatter(has_time=not in_journal)
    )
    handler.setFormatter(_JournalFormatter(formatter) if in_journal else formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    if root.level > logging.DEBUG:  # one line per request is noise unless someone debugs
        logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def text_formatter() -> logging.Formatter:
    """Build the formatter of the text form, for whoever keeps lines elsewhere, too."""
    return _TextFormatter()


def say_error(text: str) -> None:
    """Print why a program ends to stderr; each line is an error where that is the journal."""
    prefix = "<3>" if _is_journal(sys.stderr.fileno) else ""
    print("\n".join(f"{prefix}{line}" for line in text.splitlines()), file=sys.stderr)  # noqa: T201


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {key: value for key, value in record.__dict__.items() if key not in _standard}
    return {**(_context.get() or {}), **extra}


def _is_journal(find_descriptor: Callable[[], int]) -> bool:
    """Tell whether a descriptor is what systemd connected to its journal."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(find_descriptor())
    except OSError:  # closed, or no file at all
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class _TextFormatter(logging.Formatter):
    def __init__(self, *, has_time: bool = True) -> None:
        super().__init__()
        self._has_time = has_time

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        line = f"{record.levelname.lower():7} {record.name}: {record.getMessage()}{fields}"
        if self._has_time:
            time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
            line = f"{time[:-3]}Z {line}"
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


class _JournalFormatter(logging.Formatter):
    """Puts the priority before each line; a traceback has many."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _priorities if record.levelno >= level)
        lines = self._inner.format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)
