"""How one allocation's messages are brought to the master, and when one is given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from shipway_common.backoff import backoff_delays_s
from shipway_launcher.relay.errors import MasterRefused, MasterUnreachable, StreamRefused
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.lane import Batch
from shipway_launcher.relay.master import MasterRpc, Metadata
from shipway_launcher.relay.messages import POST_LOGS, POST_METRICS, gap_line
from shipway_launcher.relay.stored import without_stored
from shipway_proto.determined.api.v1 import task_pb2 as api_task

log = logging.getLogger(__name__)

_CALL_LIMIT_S = 60.0
_MAY_HEAL_TRIES = 6
"""How often a message is tried again that the master fails on (500), not refuses (400)."""
_joinable = frozenset({POST_LOGS, POST_METRICS})
_may_heal = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Brings batches to the master in the name of one token."""

    master: MasterRpc
    metadata: Metadata

    async def deliver(self, batch: Batch) -> bool:
        """Return when each message of *batch* was delivered or refused for good.

        Returns:
            Whether the master already had some of it, which is looked for in a doubtful one.

        Raises:
            StreamRefused: The token is dead, so nothing more can be delivered.
        """
        messages = list(batch.messages)
        if batch.gap_lines:
            messages = _with_gap_mark(messages, batch.gap_lines)
        had_some = False
        for group in _groups(messages):
            had_some |= await self._deliver_group(group, is_doubtful=batch.is_doubtful)
        return had_some

    async def _deliver_group(self, group: Sequence[Message], *, is_doubtful: bool = False) -> bool:
        task = _Task(left=list(group), is_doubtful=is_doubtful)
        try:
            await self._call(task)
        except MasterRefused as error:
            if error.code is grpc.StatusCode.UNAUTHENTICATED:
                raise StreamRefused(str(error)) from error
            await self._find_fault(task.left, error)
        return task.left != list(group)

    async def _find_fault(self, group: Sequence[Message], error: MasterRefused) -> None:
        if len(group) > 1:  # one of them is at fault, and the others must not suffer
            for message in group:
                await self._deliver_group([message])
        elif error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and group[0].lines > 1:
            await self._deliver_halves(group[0])
        else:
            _log_dropped(group[0], error)

    async def _deliver_halves(self, message: Message) -> None:
        """Deliver a request that is too large for the master as two."""
        lines = list(api_task.PostTaskLogsRequest.FromString(message.request).logs)
        middle = len(lines) // 2
        for half in (lines[:middle], lines[middle:]):
            await self._deliver_group(
                [
                    Message(
                        rpc=message.rpc,
                        lines=len(half),
                        request=api_task.PostTaskLogsRequest(logs=half).SerializeToString(),
                    )
                ]
            )

    async def _call(self, task: _Task) -> None:
        """Call until the master has answered."""
        is_away, failures = False, 0
        for delay_s in backoff_delays_s(limit_s=10):
            try:
                await self._call_once(task)
            except MasterUnreachable as error:
                if not is_away:
                    log.warning("master away; keeping messages", extra={"reason": str(error)})
                is_away = task.is_doubtful = True
            except MasterRefused as error:
                failures += 1
                if error.code not in _may_heal or failures >= _MAY_HEAL_TRIES:
                    raise
                task.is_doubtful = True
            else:
                if is_away:
                    log.info("master back; messages delivered")
                return
            await asyncio.sleep(delay_s)

    async def _call_once(self, task: _Task) -> None:
        if task.is_doubtful:
            task.left = await without_stored(self.master, self.metadata, task.left)
            task.is_doubtful = False
            if not task.left:
                return
        # Joined encodings of a message are the encoding of one with both their repeated fields.
        request = b"".join(message.request for message in task.left)
        await self.master.call(task.left[0].rpc, request, self.metadata, limit_s=_CALL_LIMIT_S)


@dataclass(slots=True)
class _Task:
    """What is still to be delivered of a group."""

    left: list[Message]
    is_doubtful: bool
    """The master may have some of it: a call was made whose answer never came."""


def _groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Join requests of one kind that follow each other; signals stay alone."""
    groups: list[list[Message]] = []
    for message in messages:
        if groups and message.rpc == groups[-1][0].rpc and message.rpc in _joinable:
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups


def _with_gap_mark(messages: Sequence[Message], gap_lines: int) -> list[Message]:
    """Say in the task's own log, at the place of the loss, how much was lost."""
    if not messages:
        return []
    first = api_task.PostTaskLogsRequest.FromString(messages[0].request).logs[0]
    text = f"[{gap_lines} lines of output are missing here: the relay's spool was full]"
    mark = gap_line(first, text).SerializeToString()
    return [Message(rpc=POST_LOGS, request=mark, lines=0), *messages]


def _log_dropped(message: Message, error: MasterRefused) -> None:
    log.error(
        "the master refused a message; it is dropped",
        extra={"rpc": message.rpc, "lines": message.lines, "reason": str(error)},
    )
