"""The relay as one part of the launcher: its listener and all behind it."""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from shipway_launcher.relay.address import MasterAddress
from shipway_launcher.relay.answers import errors_as_answers
from shipway_launcher.relay.master import MasterRpc
from shipway_launcher.relay.passthrough import PassThrough
from shipway_launcher.relay.routes import Routes
from shipway_launcher.relay.settings import RelaySettings
from shipway_launcher.relay.signals import job_owner, put_pending_preemption
from shipway_launcher.relay.spool import Spool

log = logging.getLogger(__name__)

_BODY_BYTES = 96 << 20  # the master's own limit for one message
_CLOSE_S = 2.0


class Relay:
    """What jobs take for the master; serves between `__aenter__` and `__aexit__`.

    In the order of need: the connection to the master, the spool, the pass-through, the listener.
    They are left in reverse: no new call is taken, the calls under way end, what is being
    delivered is noted, and all else stays in the spool for the next run.
    """

    def __init__(self, settings: RelaySettings, spool_dir: Path, master: MasterAddress) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: Where to listen and how much to keep.
            spool_dir: Folder of the relay's own on a local disk; made if it is not there.
            master: Where the master is; whoever receives manifests tells it.
        """
        self._settings, self._spool_dir, self._master = settings, spool_dir, master
        self._stack = AsyncExitStack()
        self._port: int | None = None
        self._spool: Spool | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            rpc = await stack.enter_async_context(MasterRpc(self._master, settings.tls))
            spool = await stack.enter_async_context(Spool(self._spool_dir, settings.spool, rpc))
            through = await stack.enter_async_context(
                PassThrough(self._master, settings.tls, master_wait_s=settings.master_wait_s)
            )
            app = web.Application(client_max_size=_BODY_BYTES, middlewares=[errors_as_answers])
            Routes(spool, rpc).add_to(app)
            app.router.add_route("*", "/{path:.*}", through.handle)
            runner = web.AppRunner(
                app, handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSE_S
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, settings.host, settings.port)
            await site.start()
            self._port = runner.addresses[0][1]
            self._spool = spool
            self._stack = stack.pop_all()
        log.info("relay listens", extra={"host": settings.host, "port": self._port})
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def report_preemption(self, allocation_id: str, token: str) -> None:
        """Tell the master once that a preemption is pending, as if the job had said so.

        Raises:
            RelayError: It was not taken.
        """
        assert self._spool is not None, "to be entered first"
        await put_pending_preemption(self._spool, job_owner(allocation_id, token))

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
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"
