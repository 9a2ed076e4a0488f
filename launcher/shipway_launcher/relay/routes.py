"""What the relay answers itself: logs and signals from the spool, the all-gather in person."""

from __future__ import annotations

import asyncio
import json
import logging

from aiohttp import web
from multidict import CIMultiDictProxy

from shipway_common.backoff import backoff_delays_s
from shipway_launcher.relay.delivery import POST_LOGS
from shipway_launcher.relay.errors import BadRequest, MasterUnreachable, MissingToken
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.master import MasterRpc, Metadata
from shipway_launcher.relay.messages import (
    all_gather_answer,
    all_gather_request,
    notify_request,
    owner_of,
    parse_body,
    task_logs_request,
)
from shipway_launcher.relay.signals import put_pending_preemption
from shipway_launcher.relay.spool import Spool
from shipway_launcher.relay.stream import Owner

log = logging.getLogger(__name__)

_THREAD_BYTES = 128 << 10  # a larger body is read in a thread, so that it delays nobody else
_ALLOCATION = "/api/v1/allocations/{allocation_id}"


class Routes:
    """The handlers of the calls that do not simply pass through."""

    def __init__(self, spool: Spool, master: MasterRpc) -> None:
        self._spool, self._master = spool, master

    def add_to(self, app: web.Application) -> None:
        """Register the handlers; as the master does, ignore one slash at the end of a path."""
        for path, handler in (
            ("/api/v1/task/logs", self._task_logs),
            (f"{_ALLOCATION}/signals/pending_preemption", self._pending_preemption),
            (f"{_ALLOCATION}/notify_container_running", self._notify_running),
            (f"{_ALLOCATION}/all_gather", self._all_gather),
        ):
            app.router.add_post(path, handler)
            app.router.add_post(path + "/", handler)

    async def _task_logs(self, request: web.Request) -> web.Response:
        metadata = _metadata(request.headers)
        body = await request.read()
        is_large = len(body) > _THREAD_BYTES
        message, allocation_id = (
            await asyncio.to_thread(_read_logs, body) if is_large else _read_logs(body)
        )
        stream = await self._spool.stream(Owner(allocation_id=allocation_id, metadata=metadata))
        await stream.put_logs(message)
        return web.json_response({})

    async def _pending_preemption(self, request: web.Request) -> web.Response:
        await put_pending_preemption(self._spool, _owner(request))
        return web.json_response({})

    async def _notify_running(self, request: web.Request) -> web.Response:
        owner = _owner(request)
        signal = notify_request(owner.allocation_id, parse_body(await request.read()))
        stream = await self._spool.stream(owner)
        is_new = await stream.put_signal(
            Message(
                rpc="NotifyContainerRunning",
                key=f"running:{signal.rank}",
                request=signal.SerializeToString(),
            )
        )
        if is_new:
            log.info(
                "container running",
                extra={"allocation_id": owner.allocation_id, "rank": signal.rank},
            )
        return web.json_response({"data": []})

    async def _all_gather(self, request: web.Request) -> web.Response:
        """Block until all peers have called; the caller's leaving cancels this handler."""
        owner = _owner(request)
        gather = all_gather_request(owner.allocation_id, parse_body(await request.read()))
        answer = await self._gather(gather.SerializeToString(), owner)
        return web.json_response(all_gather_answer(answer), dumps=_dumps)

    async def _gather(self, request: bytes, owner: Owner) -> bytes:
        is_away = False
        for delay_s in backoff_delays_s(limit_s=5):
            try:
                # The same requestUuid in each try: to the master it stays the same peer.
                return await self._master.call(
                    "AllocationAllGather", request, owner.metadata, limit_s=None
                )
            except MasterUnreachable as error:
                if not is_away:
                    is_away = True
                    log.warning(
                        "master away during an all-gather; asking again",
                        extra={"allocation_id": owner.allocation_id, "reason": str(error)},
                    )
            await asyncio.sleep(delay_s)
        raise AssertionError("delays never end")


def _read_logs(body: bytes) -> tuple[Message, str]:
    request = task_logs_request(parse_body(body))
    message = Message(rpc=POST_LOGS, request=request.SerializeToString(), lines=len(request.logs))
    return message, owner_of(request.logs)


def _owner(request: web.Request) -> Owner:
    allocation_id = request.match_info["allocation_id"]
    if "." not in allocation_id:  # what the master would say, too
        raise BadRequest(f"{allocation_id[:200]!r} is no id of an allocation")
    return Owner(allocation_id=allocation_id, metadata=_metadata(request.headers))


def _metadata(headers: CIMultiDictProxy[str]) -> Metadata:
    """Find the caller's token, in the order in which the master looks for one.

    Raises:
        MissingToken: There is none.
    """
    for header, name in (
        ("Grpc-Metadata-x-user-token", "x-user-token"),
        ("Authorization", "x-user-token"),
        ("Grpc-Metadata-x-allocation-token", "x-allocation-token"),
    ):
        value = headers.get(header)
        if value is None:
            continue
        if not value.startswith("Bearer ") or not value.isascii() or not value.isprintable():
            raise MissingToken(f"{header} holds no bearer token")
        return ((name, value),)
    raise MissingToken("token missing")


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
