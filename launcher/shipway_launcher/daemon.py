"""The parts of `shipway-launcher serve`, entered and left in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from shipway_launcher.api.serving import serve_api
from shipway_launcher.backends import close_backend, make_backend
from shipway_launcher.background import Background
from shipway_launcher.carriers.shelf import QueryShelf
from shipway_launcher.config import LauncherSettings
from shipway_launcher.dispatches.end import Ender
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.notice import PreemptionNotices, PreemptionSink
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.submit import Submitter
from shipway_launcher.dispatches.vanished import Patience
from shipway_launcher.errors import SetupError
from shipway_launcher.launches import Parts
from shipway_launcher.machines import open_machine
from shipway_launcher.relay import MasterAddress, Relay, SignalSpool
from shipway_launcher.service import Launcher
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.transport.machine import LocalMachine
from shipway_launcher.users import Users
from shipway_launcher.watch import Watch

log = logging.getLogger(__name__)

_EXPIRE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A launcher that listens."""

    url: str
    token: str
    relay_url: str | None
    describe: Callable[[], str]
    """Says in a few words what the launcher does."""


def check_user(settings: LauncherSettings, user: str) -> None:
    """See to it that the launcher, and so its jobs, run as who they are meant to.

    Args:
        settings: The launcher's.
        user: Who runs Slurm's commands.

    Raises:
        SetupError: They do not.
    """
    do, does = ("log in", "logs in") if settings.ssh.is_used else ("run", "runs")
    if settings.user_name is not None and settings.user_name != user:
        raise SetupError(
            f"user_name: the launcher is to {do} as {settings.user_name}, not as {user}"
        )
    if user == "root" and settings.user_name is None:
        raise SetupError(
            f"user_name: the launcher {does} as root, and so all jobs would run as root; {do} as"
            " another user, or set user_name: root to allow it"
        )


@asynccontextmanager
async def run_launcher(settings: LauncherSettings) -> AsyncGenerator[Serving]:
    """Start everything; on the way out stop in reverse, leaving the jobs alone.

    In the order of need: the folders, the records of earlier runs, the relay, the way to the
    cluster, the REST face, and the watch, without which a call that needs a look at Slurm waits.

    Raises:
        SetupError: The settings do not fit this machine.
    """
    store = DispatchStore(settings.records_dir)
    if not settings.ssh.is_used:  # before anything is made as the wrong user
        await asyncio.to_thread(lambda: check_user(settings, LocalMachine().user))
    await asyncio.to_thread(store.open)
    registry = Registry(store)
    await registry.load()
    failure: SetupError | None = None
    async with AsyncExitStack() as stack:
        try:
            serving = await _start(stack, settings, store, registry)
        except SetupError as error:  # raised in here, the parts that run would make a group of it
            failure = error
        else:
            log.info(
                "launcher ready", extra={"url": serving.url, "relay": serving.relay_url or "off"}
            )
            yield serving
            log.info("launcher stopping; jobs go on")
    if failure is not None:
        raise failure


async def _start(
    stack: AsyncExitStack, settings: LauncherSettings, store: DispatchStore, registry: Registry
) -> Serving:
    """Start the parts that run, in the order of need."""
    relay = await _enter_relay(stack, settings)
    machine = await stack.enter_async_context(open_machine(settings, for_jobs=True))
    check_user(settings, machine.user)
    users = Users(settings, machine)
    background = await stack.enter_async_context(Background())
    slurm = make_backend(settings, users)
    stack.push_async_callback(close_backend, slurm)
    launcher, watch, notices = _put_together(
        settings, users, slurm, store, registry, relay, background
    )
    api = await stack.enter_async_context(serve_api(settings, launcher, own_user=machine.user))
    group = await stack.enter_async_context(asyncio.TaskGroup())
    for work, name in (
        (notices.run(), "preemptions"),
        (watch.run(), "watch"),
        (_expire(launcher), "expire"),
    ):
        stack.callback(group.create_task(work, name=name).cancel)
    return Serving(
        url=api.url,
        token=api.token,
        relay_url=relay.url,
        describe=lambda: _describe(settings, launcher, watch),
    )


def _describe(settings: LauncherSettings, launcher: Launcher, watch: Watch) -> str:
    answers = "answers" if watch.is_answered else "does not answer"
    return f"{len(launcher.running())} jobs, {settings.workload_manager.label} {answers}"


def _put_together(
    settings: LauncherSettings,
    users: Users,
    slurm: SlurmBackend,
    store: DispatchStore,
    registry: Registry,
    relay: _RelayFace,
    background: Background,
) -> tuple[Launcher, Watch, PreemptionNotices]:
    root = settings.job_storage_root
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
    launcher = Launcher(
        parts,
        background,
        relay_url=relay.url,
        learn_job=relay.learn_job,
        settle_job=relay.settle_job,
    )
    return launcher, watch, notices


@dataclass(frozen=True, slots=True, kw_only=True)
class _RelayFace:
    """What the rest of the launcher knows of the relay."""

    url: str | None
    """What jobs take for the master; None where they reach the master itself."""
    learn_job: Callable[[Mapping[str, str]], Awaitable[None]]
    """To be told the variables of each job's task."""
    settle_job: Callable[[str], Awaitable[None]]
    """Waits a moment until the master has what the job of an allocation told it."""
    sink: PreemptionSink


async def _enter_relay(stack: AsyncExitStack, settings: LauncherSettings) -> _RelayFace:
    """Start the relay, or only its spool for the launcher's own signals if it is not wanted."""
    folder = settings.relay_dir or settings.records_dir / "relay"
    try:
        await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"relay_dir: {error}") from error
    master = MasterAddress(settings.relay.master, folder / "master.json")
    if not settings.relay.enabled:
        signals = SignalSpool(settings.relay, folder / "spool", master)
        sink = await stack.enter_async_context(signals)
        return _RelayFace(url=None, learn_job=sink.learn, settle_job=sink.settle, sink=sink)
    try:
        relay = await stack.enter_async_context(Relay(settings.relay, folder / "spool", master))
    except OSError as error:
        address = f"{settings.relay.host}:{settings.relay.port}"
        raise SetupError(f"relay: cannot listen on {address}: {error}") from error
    return _RelayFace(url=relay.url, learn_job=relay.learn, settle_job=relay.settle, sink=relay)


async def _expire(launcher: Launcher) -> None:
    while True:
        await asyncio.sleep(_EXPIRE_EVERY_S)
        await launcher.expire()
