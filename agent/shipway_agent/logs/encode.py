"""Batches in the two forms in which a master takes task logs: protobuf and JSON.

Most of a `TaskLog` is the same for all lines that were read at one time. It is encoded once, and a
line costs no more than a look-up of what stands before texts of its length; making a message of
each would cost ten times that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii

from shipway_agent.logs.batch import Batch, Stamped
from shipway_agent.logs.prefix import Label, LineLevel, parse_prefix, split_prefixes
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest
from shipway_proto.determined.log.v1.log_pb2 import LogLevel
from shipway_proto.determined.task.v1.task_pb2 import TaskLog

_SOURCE = "task"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_level_names: Mapping[LineLevel, str] = {
    "DEBUG": "LOG_LEVEL_DEBUG",
    "INFO": "LOG_LEVEL_INFO",
    "WARNING": "LOG_LEVEL_WARNING",
    "ERROR": "LOG_LEVEL_ERROR",
    "CRITICAL": "LOG_LEVEL_CRITICAL",
}
_LOGS_TAG = bytes([PostTaskLogsRequest.LOGS_FIELD_NUMBER << 3 | 2])
_LOG_TAG = bytes([TaskLog.LOG_FIELD_NUMBER << 3 | 2])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """Who writes the lines; the same for all of them."""

    task_id: str
    allocation_id: str
    agent_id: str
    container_id: str
    rank: int | None = None
    """Of lines that do not tell theirs."""


class BatchEncoder:
    """Encodes batches of one container."""

    def __init__(self, source: LogSource) -> None:
        self._source = source

    def protobuf(self, batch: Batch) -> bytes:
        """Return the batch as a serialized `PostTaskLogsRequest`."""
        parts: list[bytes] = []
        for part in batch.parts:
            if part.lines.has_prefixes:
                self._add_labelled(part, parts)
            else:
                self._add_plain(part, parts)
        return b"".join(parts)

    def json(self, batch: Batch) -> bytes:
        """Return the batch as the body of `POST /api/v1/task/logs`."""
        return b'{"logs":[' + ",".join(self._records(batch)).encode("ascii") + b"]}"

    def _add_plain(self, part: Stamped, parts: list[bytes]) -> None:
        frame = self._frame(part, b"")
        texts = part.lines.texts
        pieces = [frame.after] * (3 * len(texts))
        pieces[0::3] = map(frame.__getitem__, map(len, texts))
        pieces[1::3] = texts
        parts += pieces

    def _add_labelled(self, part: Stamped, parts: list[bytes]) -> None:
        split = split_prefixes(part.lines.texts)
        frames = {prefix: self._frame(part, prefix) for prefix in {prefix for prefix, _ in split}}
        pieces = [next(iter(frames.values())).after] * (3 * len(split))
        pieces[0::3] = [frames[prefix][len(text)] for prefix, text in split]
        pieces[1::3] = [text for _, text in split]
        parts += pieces

    def _frame(self, part: Stamped, prefix: bytes) -> _Frame:
        entry = self._entry(part, parse_prefix(prefix))
        after = TaskLog(source=entry.source, stdtype=entry.stdtype).SerializePartialToString()
        entry.ClearField("source")
        entry.ClearField("stdtype")
        return _Frame(entry.SerializePartialToString(), after)

    def _entry(self, part: Stamped, label: Label) -> TaskLog:
        """Return what is said of each line, without its text."""
        source = self._source
        entry = TaskLog(
            task_id=source.task_id,
            allocation_id=source.allocation_id,
            agent_id=source.agent_id,
            container_id=source.container_id,
            source=_SOURCE,
            stdtype=part.lines.stream,
        )
        entry.timestamp.FromMicroseconds(part.time_us)
        rank = source.rank if label.rank is None else label.rank
        if rank is not None:
            entry.rank_id = rank
        if (level := _level_names.get(label.level)) is not None:
            entry.level = LogLevel.Value(level)
        return entry

    def _records(self, batch: Batch) -> Iterator[str]:
        for part in batch.parts:
            texts = part.lines.texts
            if part.lines.has_prefixes:
                split = split_prefixes(texts)
            else:
                split = [(b"", text) for text in texts]
            heads = {
                prefix: self._json_head(part, parse_prefix(prefix))
                for prefix in {prefix for prefix, _ in split}
            }
            for prefix, text in split:
                yield f"{heads[prefix]}{encode_basestring_ascii(text.decode())}}}"

    def _json_head(self, part: Stamped, label: Label) -> str:
        source = self._source
        rank = source.rank if label.rank is None else label.rank
        level = _level_names.get(label.level)
        record = {
            "taskId": source.task_id,
            "allocationId": source.allocation_id,
            "agentId": source.agent_id,
            "containerId": source.container_id,
            "timestamp": (_EPOCH + timedelta(microseconds=part.time_us)).isoformat(),
            "stdtype": part.lines.stream,
            "source": _SOURCE,
            **({} if rank is None else {"rankId": rank}),
            **({} if level is None else {"level": level}),
        }
        return f'{json.dumps(record)[:-1]}, "log": '


class _Frame(dict[int, bytes]):
    """What stands before a text, by its length; and what stands after all of them."""

    def __init__(self, head: bytes, after: bytes) -> None:
        super().__init__()
        self._head, self.after = head, after

    def __missing__(self, length: int) -> bytes:
        log_head = _LOG_TAG + _varint(length)
        size = len(self._head) + len(log_head) + length + len(self.after)
        self[length] = before = _LOGS_TAG + _varint(size) + self._head + log_head
        return before


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
