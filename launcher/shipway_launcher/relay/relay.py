"""The relay as one part of the launcher: its listener and all behind it."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from shipway_common.badhttp import server_log
from shipway_common.frontdoor import FrontDoor
from shipway_launcher.openfiles import allow_many_connections
from shipway_launcher.relay.address import MasterAddress
from shipway_launcher.relay.answers import errors_as_answers
from shipway_launcher.relay.calls import Calls
from shipway_launcher.relay.grpcface import GrpcFace, serving_grpc
from shipway_launcher.relay.jobs import Jobs
from shipway_launcher.relay.master import MasterRpc
from shipway_launcher.relay.passthrough import PassThrough
from shipway_launcher.relay.routes import Routes
from shipway_launcher.relay.sending import LargeAnswers
from shipway_launcher.relay.settings import ListenTlsSettings, RelaySettings
from shipway_launcher.relay.signals import (
    PENDING_PREEMPTION,
    job_owner,
    put_allocation_signal,
    settle_allocation,
)
from shipway_launcher.relay.spool import Spool
from shipway_launcher.tls import Certificate

log = logging.getLogger(__name__)

_BODY_BYTES = 96 << 20  # the master's own limit for one message
_CLOSE_S = 2.0
_TIDY_EVERY_S = 600.0
_RENEW_EVERY_S = 30.0


class Relay:
    """What jobs take for the master; serves between `__aenter__` and `__aexit__`.

    In the order of need: the jobs, the connection to the master, the spool, the pass-through, the
    two faces, the port that both share. They are left in reverse: no new call is taken, the calls
    under way end, what is being delivered is noted, and all else stays in the spool for the next run.
    """

    def __init__(self, settings: RelaySettings, spool_dir: Path, master: MasterAddress) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: Where to listen and how much to keep.
            spool_dir: Folder of the relay's own on a local disk; made if it is not there.
            master: Where the master is; whoever receives manifests tells it.
        """
        self._settings, self._spool_dir, self._master = settings, spool_dir, master
        self._jobs = Jobs(spool_dir.parent / "jobs", keep_h=settings.spool.keep_h)
        self._stack = AsyncExitStack()
        self._port: int | None = None
        self._spool: Spool | None = None

    async def __aenter__(self) -> Self:
        """Start.

        Raises:
            SetupError: Its certificate cannot be used.
            OSError: The master's certificates cannot be, or the port, or the folder.
        """
        failure: OSError | None = None
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
            except OSError as error:  # raised in here, the parts that run would make a group of it
                failure = error
            else:
                self._stack = stack.pop_all()
        if failure is not None:
            raise failure
        log.info("relay listens", extra={"host": self._settings.host, "port": self._port})
        return self

    async def _start(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        certificate = await asyncio.to_thread(_load_certificate, settings.listen_tls)
        await asyncio.to_thread(self._jobs.load)
        allow_many_connections()
        rpc = await stack.enter_async_context(MasterRpc(self._master, settings.tls))
        spool = await stack.enter_async_context(
            Spool(self._spool_dir, settings.spool, settings.gather, rpc)
        )
        through = await stack.enter_async_context(
            PassThrough(self._master, settings.tls, master_wait_s=settings.master_wait_s)
        )
        calls, large = Calls(spool, self._jobs), LargeAnswers()
        app = web.Application(client_max_size=_BODY_BYTES, middlewares=[errors_as_answers])
        Routes(calls, through, large).add_to(app)
        face = GrpcFace(calls, rpc, large, master_wait_s=settings.master_wait_s)
        self._port = await self._listen(stack, app, face, certificate)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(group.create_task(self._tidy()).cancel)
        if certificate is not None:
            stack.callback(group.create_task(certificate.renew(_RENEW_EVERY_S)).cancel)
        self._spool = spool

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _listen(
        self,
        stack: AsyncExitStack,
        app: web.Application,
        face: GrpcFace,
        certificate: Certificate | None,
    ) -> int:
        settings = self._settings
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-relay-")))
        socket_path = folder / "grpc"  # the folder is 0700: nobody else gets behind the front door
        door = await stack.enter_async_context(FrontDoor(socket_path))
        await stack.enter_async_context(serving_grpc(face, socket_path))
        runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_CLOSE_S,
            logger=server_log,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        port = await door.listen(
            settings.host,
            settings.port,
            runner.server,
            tls=None if certificate is None else certificate.context,
        )
        stack.callback(door.stop_listening)
        return port

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_EVERY_S)
            try:
                await self._jobs.forget_old()
            except OSError as error:
                log.warning("cannot forget old jobs", extra={"reason": str(error)})

    async def learn(self, environment: Mapping[str, str]) -> None:
        """Hear of a job that is about to be submitted, by the variables of its task.

        Raises:
            ValueError: Its DET_MASTER is no URL of a master.
            OSError: What must be remembered cannot be written down.
        """
        await self._master.learn(environment["DET_MASTER"])
        await self._jobs.learn(environment)

    async def report_preemption(self, allocation_id: str, token: str) -> None:
        """Tell the master once that a preemption is pending, as if the job had said so.

        Raises:
            RelayError: It was not taken.
        """
        assert self._spool is not None, "to be entered first"
        await put_allocation_signal(
            self._spool, job_owner(allocation_id, token), PENDING_PREEMPTION
        )

    async def settle(self, allocation_id: str) -> None:
        """Wait a moment for the master to get all that a job, which has ended, still had to say."""
        assert self._spool is not None, "to be entered first"
        await settle_allocation(self._spool, allocation_id)

    @property
    def url(self) -> str:
        """What jobs are told as the master's URL.

        Raises:
            RuntimeError: The relay was not entered.
        """
        if self._settings.advertised_url is not None:
            return self._settings.advertised_url
        if self._port is None:
            raise RuntimeError("the relay has no address before it is entered")
        host = self._settings.host
        if host in {"0.0.0.0", "::", ""}:  # noqa: S104 (compared, not bound)
            host = socket.getfqdn()
        scheme = "http" if self._settings.listen_tls.certificate_file is None else "https"
        authority = f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"
        return f"{scheme}://{authority}"


def _load_certificate(settings: ListenTlsSettings) -> Certificate | None:
    if settings.certificate_file is None or settings.key_file is None:
        return None
    certificate = Certificate(
        settings.certificate_file, settings.key_file, setting="relay.listen_tls"
    )
    certificate.load()
    # gRPC offers h2 alone. Who offers both speaks HTTP/1.1 here: h2 is gRPC and nothing else.
    certificate.context.set_alpn_protocols(["http/1.1", "h2"])
    return certificate
