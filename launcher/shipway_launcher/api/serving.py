"""The REST face from its settings: tokens, access lists, certificate and socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from shipway_common.badhttp import server_log
from shipway_launcher.acls import AclBook
from shipway_launcher.api.auth import Gate
from shipway_launcher.api.callers import Callers
from shipway_launcher.api.links import KEEP_IDLE_S, Links
from shipway_launcher.api.rates import Rates
from shipway_launcher.api.routes import Face, make_app
from shipway_launcher.config import LauncherSettings, is_loopback
from shipway_launcher.credentials import CredentialStore
from shipway_launcher.errors import LauncherError, SetupError
from shipway_launcher.service import Launcher
from shipway_launcher.tls import Certificate
from shipway_launcher.tokenbook import TokenBook, TokenEntry
from shipway_launcher.tokens import load_or_make_token

log = logging.getLogger(__name__)

_CLOSE_S = 5.0
_RENEW_EVERY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A REST face that listens."""

    url: str
    token: str


@asynccontextmanager
async def serve_api(
    settings: LauncherSettings, launcher: Launcher, *, own_user: str
) -> AsyncGenerator[Listening]:
    """Listen until the end of the block.

    Args:
        settings: Where, with which certificate and which limits.
        launcher: Does what is asked for.
        own_user: Whom the administrator's token stands for.

    Raises:
        SetupError: The settings do not fit this machine.
    """
    token = await asyncio.to_thread(
        load_or_make_token, settings.token_file, group=settings.auth_file_group
    )
    face = await _make_face(settings, launcher, own_user)
    certificate = await _load_certificate(settings)
    runner = web.AppRunner(
        make_app(face),
        access_log=None,
        shutdown_timeout=_CLOSE_S,
        keepalive_timeout=KEEP_IDLE_S,
        auto_decompress=False,  # `bodies` does that
        logger=server_log,
    )
    await runner.setup()
    try:
        context = None if certificate is None else certificate.context
        site = web.TCPSite(runner, settings.host.strip("[]"), settings.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            address = f"{settings.host}:{settings.port}"
            raise SetupError(f"cannot listen on {address}: {error}") from error
        if certificate is None and not is_loopback(settings.host):
            log.warning("tokens go over the network unencrypted; set tls.cert_file and key_file")
        server = runner.server
        assert server is not None, "the runner has been set up"
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(face.links.close_silent(server), name="links")]
            if certificate is not None:
                tasks.append(group.create_task(certificate.renew(_RENEW_EVERY_S), name="tls"))
            yield Listening(url=_url_of(settings, runner.addresses[0][1]), token=token)
            for task in tasks:
                task.cancel()
    finally:
        await runner.cleanup()


async def _make_face(settings: LauncherSettings, launcher: Launcher, own_user: str) -> Face:
    root = settings.records_dir
    callers = Callers(
        settings.token_file,
        TokenBook(root),
        own_user=own_user,
        grace=timedelta(hours=settings.token_grace_h),
    )
    try:
        await callers.load()
    except (LauncherError, OSError) as error:
        raise SetupError(str(error)) from error
    acls = AclBook(root)
    await asyncio.to_thread(acls.load)
    anybody = None
    if not settings.require_token:
        anybody = TokenEntry(digest="", user=own_user, is_admin=True, created_at=datetime.now(UTC))
        log.warning("require_token is off: everybody who reaches the port can do everything")
    gate = Gate(callers=callers, anybody=anybody, rates=Rates(settings.limits.requests_per_s))
    return Face(
        launcher=launcher,
        gate=gate,
        acls=acls,
        credentials=CredentialStore(root),
        links=Links(settings.limits.body_timeout_s),
        limits=settings.limits,
    )


async def _load_certificate(settings: LauncherSettings) -> Certificate | None:
    tls = settings.tls
    if tls.cert_file is None or tls.key_file is None:
        return None
    certificate = Certificate(tls.cert_file, tls.key_file)
    await asyncio.to_thread(certificate.load)
    return certificate


def _url_of(settings: LauncherSettings, port: int) -> str:
    host = settings.host.strip("[]")
    scheme = "https" if settings.tls.cert_file else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
