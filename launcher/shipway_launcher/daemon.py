"""The parts of `shipway-launcher serve`, entered and left in order."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from shipway_launcher.api.routes import make_app
from shipway_launcher.carriers.shelf import QueryShelf
from shipway_launcher.config import Impersonation, LauncherSettings
from shipway_launcher.dispatches.end import Ender
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.notice import PreemptionNotices, PreemptionSink
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.submit import Submitter
from shipway_launcher.dispatches.vanished import Patience
from shipway_launcher.errors import SetupError
from shipway_launcher.launches import Parts
from shipway_launcher.relay import MasterAddress, Relay, SignalSpool
from shipway_launcher.service import Launcher
from shipway_launcher.slurm.cli import CommandLineSlurm, Programs
from shipway_launcher.tokens import load_or_make_token
from shipway_launcher.users import Users
from shipway_launcher.watch import Watch

log = logging.getLogger(__name__)

_EXPIRE_EVERY_S = 60.0
_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A launcher that listens."""

    url: str
    token: str
    relay_url: str | None


def check_user(settings: LauncherSettings) -> None:
    """See to it that the launcher runs as who it is meant to.

    Raises:
        SetupError: It does not.
    """
    me = pwd.getpwuid(os.geteuid()).pw_name
    if settings.user_name is not None and settings.user_name != me:
        raise SetupError(f"user_name: the launcher is to run as {settings.user_name}, not as {me}")
    if os.geteuid() == 0 and settings.user_name is None:
        raise SetupError(
            "user_name: the launcher runs as root, and so would all jobs; run it as another user,"
            " or set user_name: root to allow it"
        )


def make_slurm(settings: LauncherSettings, users: Users) -> CommandLineSlurm:
    """Make the backend that the settings describe."""
    return CommandLineSlurm(
        Programs(settings.slurm.bin_dir, users.path),
        users.own,
        query_timeout_s=settings.slurm.query_timeout_s,
        submit_timeout_s=settings.slurm.submit_timeout_s,
    )


@asynccontextmanager
async def run_launcher(settings: LauncherSettings) -> AsyncGenerator[Serving]:
    """Start everything; on the way out stop in reverse, leaving the jobs alone.

    In the order of need: the folders, the records of earlier runs, the relay, the REST face, and
    the watch, without which a call that needs a look at Slurm waits.

    Raises:
        SetupError: The settings do not fit this machine.
    """
    await asyncio.to_thread(check_user, settings)
    store = DispatchStore(settings.job_storage_root)
    is_shared = settings.impersonation is not Impersonation.NONE
    await asyncio.to_thread(store.open, is_shared=is_shared)
    token = await asyncio.to_thread(load_or_make_token, settings.token_file)
    registry = Registry(store)
    await registry.load()
    async with AsyncExitStack() as stack:
        relay = await _enter_relay(stack, settings)
        launcher, watch, notices = _put_together(settings, store, registry, relay)
        app = make_app(launcher, token=token, body_mib=settings.limits.body_mib)
        url = await _listen(stack, app, settings)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for work, name in (
            (notices.run(), "preemptions"),
            (watch.run(), "watch"),
            (_expire(launcher), "expire"),
        ):
            stack.callback(group.create_task(work, name=name).cancel)
        log.info("launcher ready", extra={"url": url, "relay": relay.url or "off"})
        yield Serving(url=url, token=token, relay_url=relay.url)
        log.info("launcher stopping; jobs go on")


def _put_together(
    settings: LauncherSettings,
    store: DispatchStore,
    registry: Registry,
    relay: _RelayFace,
) -> tuple[Launcher, Watch, PreemptionNotices]:
    root = settings.job_storage_root
    users = Users(settings)
    slurm = make_slurm(settings, users)
    notices = PreemptionNotices(registry, users, relay.sink, root)
    follower = Follower(
        registry,
        slurm,
        users,
        root=root,
        patience=Patience(
            missing_after_s=settings.watch.missing_after_s,
            unanswered_after_s=settings.watch.unanswered_after_s,
        ),
        kill_after_s=settings.watch.kill_after_s,
        preempted=notices.note,
    )
    watch = Watch(
        slurm,
        follower.follow,
        is_needed=follower.is_needed,
        interval_s=settings.watch.interval_s,
    )
    parts = Parts(
        settings=settings,
        users=users,
        slurm=slurm,
        store=store,
        registry=registry,
        watch=watch,
        submitter=Submitter(
            registry,
            store,
            slurm,
            watch,
            root=root,
            settle_s=settings.slurm.settle_s,
            own_user=users.own.user,
        ),
        ender=Ender(registry, slurm, users, watch, follower, root=root),
        shelf=QueryShelf(),
    )
    launcher = Launcher(parts, relay_url=relay.url, learn_master=relay.learn_master)
    return launcher, watch, notices


@dataclass(frozen=True, slots=True, kw_only=True)
class _RelayFace:
    """What the rest of the launcher knows of the relay."""

    url: str | None
    """What jobs take for the master; None where they reach the master itself."""
    learn_master: Callable[[str], Awaitable[None]]
    """To be told the master's URL."""
    sink: PreemptionSink


async def _enter_relay(stack: AsyncExitStack, settings: LauncherSettings) -> _RelayFace:
    """Start the relay, or only its spool for the launcher's own signals if it is not wanted."""
    folder = settings.relay_dir or settings.job_storage_root / "relay"
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"relay_dir: {error}") from error
    master = MasterAddress(settings.relay.master, folder / "master.json")
    if not settings.relay.enabled:
        signals = SignalSpool(settings.relay, folder / "spool", master)
        sink = await stack.enter_async_context(signals)
        return _RelayFace(url=None, learn_master=master.learn, sink=sink)
    try:
        relay = await stack.enter_async_context(Relay(settings.relay, folder / "spool", master))
    except OSError as error:
        address = f"{settings.relay.host}:{settings.relay.port}"
        raise SetupError(f"relay: cannot listen on {address}: {error}") from error
    return _RelayFace(url=relay.url, learn_master=master.learn, sink=relay)


async def _listen(stack: AsyncExitStack, app: web.Application, settings: LauncherSettings) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.host, settings.port)
    try:
        await site.start()
    except OSError as error:
        raise SetupError(f"cannot listen on {settings.host}:{settings.port}: {error}") from error
    port = runner.addresses[0][1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"


async def _expire(launcher: Launcher) -> None:
    while True:
        await asyncio.sleep(_EXPIRE_EVERY_S)
        await launcher.expire()
