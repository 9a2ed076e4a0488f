"""What the launcher can do, whoever asks: the operations behind the REST face."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shipway_common.logsetup import log_context
from shipway_launcher.carriers import queues, resources
from shipway_launcher.carriers.damper import ReasonDamper
from shipway_launcher.carriers.shelf import Query, QueryShelf, new_query_id
from shipway_launcher.carriers.table import Carrier, Purpose, choose_carrier
from shipway_launcher.config import LauncherSettings
from shipway_launcher.dispatches.end import Ender
from shipway_launcher.dispatches.files import check_dispatch_id, job_folder, log_file
from shipway_launcher.dispatches.prepare import Prepared, Site, prepare
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.submit import Submitter, refusal_text
from shipway_launcher.errors import (
    BackendError,
    LaunchFailed,
    NotFound,
    StorageError,
    TransportError,
    WrongRequest,
)
from shipway_launcher.locks import NamedLocks
from shipway_launcher.logs import FileLog, Log, TextLog
from shipway_launcher.manifest import Manifest, parse_json, parse_manifest
from shipway_launcher.redact import redact_manifest
from shipway_launcher.slurm.backend import SlurmBackend, SlurmFacts
from shipway_launcher.slurm.rows import ClusterRows
from shipway_launcher.transport.base import Transport
from shipway_launcher.users import Users
from shipway_launcher.watch import Watch

log = logging.getLogger(__name__)

_CLUSTER_FOR_S = 120.0
_CLUSTER_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the operations are made of."""

    settings: LauncherSettings
    users: Users
    slurm: SlurmBackend
    store: DispatchStore
    registry: Registry
    watch: Watch
    submitter: Submitter
    ender: Ender
    shelf: QueryShelf


class Launcher:
    """All operations on manifests and dispatches."""

    def __init__(
        self,
        parts: Parts,
        *,
        relay_url: str | None,
        learn_master: Callable[[str], Awaitable[None]],
    ) -> None:
        """Put the parts together.

        Args:
            parts: Who does the work.
            relay_url: What jobs are told as the master's address; None leaves them the master's.
            learn_master: Is told the master's URL in each manifest.
        """
        self._parts, self._relay_url, self._learn_master = parts, relay_url, learn_master
        self._launches = asyncio.Semaphore(parts.settings.limits.concurrent_launches)
        self._locks = NamedLocks()
        self._damper = ReasonDamper()
        self._cluster: ClusterRows | None = None
        self._cluster_at = 0.0

    @property
    def user(self) -> str:
        """The launcher's own user."""
        return self._parts.users.own.user

    async def launch(self, body: bytes, *, user: str, dispatch_id: str | None) -> Dispatch | Query:
        """Launch a manifest: submit its job, or answer its query.

        A launch that is repeated under its id gives the dispatch that there is.

        Args:
            body: The manifest's JSON text.
            user: Who runs the job; empty for the launcher's own user.
            dispatch_id: The id that the dispatch is to have.

        Raises:
            LauncherError: Nothing was launched.
        """
        data, manifest, digest = await asyncio.to_thread(_read, body)
        carrier = choose_carrier(manifest.carriers)
        if carrier.purpose is not Purpose.JOB:
            return await self._query(manifest, carrier.purpose)
        name = check_dispatch_id(dispatch_id or new_query_id())
        transport = await self._parts.users.get(user)
        async with self._locks.of(name):
            with log_context(dispatch_id=name):
                known = await self._find_earlier(name, transport.user, digest)
                if known is not None:
                    return known
                async with self._launches:
                    prepared = await self._prepare(manifest, carrier, name, transport.user)
                    dispatch = _new_dispatch(
                        manifest, carrier, prepared, name=name, owner=transport.user, digest=digest
                    )
                    await self._tell_relay(manifest.environment["DET_MASTER"])
                    await self._parts.registry.add(dispatch, redact_manifest(data))
                    return await self._submit(dispatch, prepared, transport)

    async def _tell_relay(self, master_url: str) -> None:
        try:
            await self._learn_master(master_url)
        except ValueError as error:
            raise WrongRequest(f"launchParameters.environment.DET_MASTER: {error}") from error
        except OSError as error:
            raise StorageError(f"the master's address cannot be kept: {error}") from error

    async def _find_earlier(self, name: str, owner: str, digest: str) -> Dispatch | None:
        known = self._parts.registry.find(name)
        if known is None:
            return None
        if known.owner == owner and known.submission is Submission.REFUSED:
            await self._parts.ender.delete(known.id)  # there was no job; this is a new try
            return None
        if known.owner != owner or known.digest != digest:
            raise WrongRequest(f"dispatchId {name} has been used for another launch")
        return known

    async def _submit(
        self, dispatch: Dispatch, prepared: Prepared, transport: Transport
    ) -> Dispatch:
        try:
            dispatch = await self._parts.submitter.submit(dispatch, prepared, transport)
        except BackendError as error:
            raise LaunchFailed(
                f"Failed to launch payload {dispatch.payload} - {refusal_text(error)}"
            ) from error
        if dispatch.terminate_requested_at is not None and not dispatch.state.is_final:
            dispatch = await self._parts.ender.terminate(dispatch.id)
        return dispatch

    async def _prepare(
        self, manifest: Manifest, carrier: Carrier, name: str, owner: str
    ) -> Prepared:
        settings = self._parts.settings
        site = make_site(
            settings,
            facts=await self._parts.slurm.facts(),
            cluster=await self._known_cluster(),
            relay_url=self._relay_url,
        )
        return await asyncio.to_thread(
            prepare, manifest, carrier, site, dispatch_id=name, owner=owner
        )

    async def _known_cluster(self) -> ClusterRows | None:
        """Return partitions and nodes if they are known or quickly asked for."""
        if self._cluster is None or time.monotonic() - self._cluster_at > _CLUSTER_FOR_S:
            try:
                async with asyncio.timeout(_CLUSTER_TIMEOUT_S):
                    await self._ask_cluster()
            except (BackendError, TransportError, TimeoutError) as error:
                log.info("submitting without knowing partitions and nodes: %s", error)
        return self._cluster

    async def _ask_cluster(self) -> ClusterRows:
        self._cluster = await self._parts.slurm.cluster()
        self._cluster_at = time.monotonic()
        return self._cluster

    async def _query(self, manifest: Manifest, purpose: Purpose) -> Query:
        if purpose is Purpose.RESOURCES:
            name, text = resources.LOG_NAME, resources.render_resources(await self._ask_cluster())
        else:
            seen = await self._parts.watch.fresh()
            name, text = queues.LOG_NAME, queues.render_queues(self._damper.damp(seen.jobs()))
        query = Query(
            id=new_query_id(),
            owner=self.user,
            name=manifest.client,
            payload=manifest.payload,
            log_name=name,
            text=text,
            at=now(),
        )
        self._parts.shelf.put(query)
        return query

    async def status(self, owner: str, dispatch_id: str, *, refresh: bool) -> Dispatch | Query:
        """Return a dispatch; with *refresh* as Slurm sees it after this call.

        When Slurm does not answer, what was known before still stands.

        Raises:
            NotFound: There is none.
        """
        if query := self._parts.shelf.find(owner, dispatch_id):
            return query
        dispatch = self._parts.registry.get(owner, dispatch_id)
        if refresh and not dispatch.state.is_final:
            await self._parts.watch.fresh()
            dispatch = self._parts.registry.get(owner, dispatch_id)
        return dispatch

    async def manifest(self, owner: str, dispatch_id: str) -> bytes:
        """Return what was launched, without its secrets.

        Raises:
            NotFound: There is none.
        """
        dispatch = self._parts.registry.get(owner, dispatch_id)
        try:
            return await asyncio.to_thread(self._parts.store.load_manifest, dispatch.id)
        except OSError as error:
            raise StorageError(f"the manifest of {dispatch.id} cannot be read: {error}") from error

    async def log(self, owner: str, dispatch_id: str, name: str) -> Log:
        """Open a log; one that a job has not begun to write is empty.

        Raises:
            NotFound: There is no such dispatch or no such log.
        """
        if query := self._parts.shelf.find(owner, dispatch_id):
            if name != query.log_name:
                raise NotFound(f"query {dispatch_id} has no log {name[:200]}")
            return TextLog(query.text.encode())
        dispatch = self._parts.registry.get(owner, dispatch_id)
        if name == f"{dispatch.payload}-submission.log":
            store = self._parts.store
            return TextLog(await asyncio.to_thread(store.load_submission_log, dispatch.id))
        file = log_file(dispatch.payload, name)
        if file is None:
            raise NotFound(f"environment {dispatch_id} has no log {name[:200]}")
        path = job_folder(self._parts.settings.job_storage_root, owner, dispatch_id) / file
        user = await self._parts.users.get(owner)
        return FileLog(user, path, await user.size(path) or 0)

    async def terminate(self, owner: str, dispatch_id: str) -> Dispatch | Query:
        """Ask for the end of a dispatch; harmless if it has ended.

        Raises:
            NotFound: There is none.
            LauncherError: Slurm was not reached; the launcher goes on trying.
        """
        if query := self._parts.shelf.find(owner, dispatch_id):
            return query
        return await self._parts.ender.terminate(self._parts.registry.get(owner, dispatch_id).id)

    async def delete(self, owner: str, dispatch_id: str) -> None:
        """Remove a dispatch with its files; a job that lives is ended first.

        Raises:
            NotFound: There is none.
            LauncherError: It is still there.
        """
        if self._parts.shelf.find(owner, dispatch_id):
            self._parts.shelf.remove(owner, dispatch_id)
            return
        dispatch = self._parts.registry.get(owner, dispatch_id)
        async with self._locks.of(dispatch.id):
            await self._parts.ender.delete(dispatch.id)

    def running(self) -> list[Dispatch]:
        """Return the dispatches that have not ended."""
        return [found for found in self._parts.registry.all() if not found.state.is_final]

    def terminated(self) -> list[Dispatch | Query]:
        """Return the dispatches that have ended."""
        ended = [found for found in self._parts.registry.all() if found.state.is_final]
        return [*ended, *self._parts.shelf.all()]

    async def expire(self) -> None:
        """Remove what ended long ago."""
        limits = self._parts.settings.limits
        await self._parts.ender.expire(
            keep_ended=timedelta(hours=limits.keep_ended_h),
            keep_refused=timedelta(minutes=limits.keep_refused_min),
        )


def make_site(
    settings: LauncherSettings,
    *,
    facts: SlurmFacts,
    cluster: ClusterRows | None,
    relay_url: str | None,
) -> Site:
    """Say what preparing a job needs to know of this site."""
    return Site(
        root=settings.job_storage_root,
        agent_command=settings.agent_command,
        image_root=settings.image_root,
        pass_wckey=settings.slurm.pass_wckey,
        archives_limit_bytes=settings.limits.archives_mib << 20,
        relay_url=relay_url,
        facts=facts,
        cluster=cluster,
    )


def _read(body: bytes) -> tuple[dict[str, Any], Manifest, str]:
    data = parse_json(body)
    return data, parse_manifest(data), hashlib.sha256(body).hexdigest()


def _new_dispatch(
    manifest: Manifest,
    carrier: Carrier,
    prepared: Prepared,
    *,
    name: str,
    owner: str,
    digest: str,
) -> Dispatch:
    at = now()
    return Dispatch(
        id=DispatchId(name),
        owner=owner,
        name=manifest.client,
        payload=manifest.payload,
        carrier=carrier.class_name,
        job_name=prepared.job_name,
        digest=digest,
        created_at=at,
        state=DispatchState.PENDING,
        submission=Submission.PREPARING,
        updated_at=at,
    )
