"""Launch manifests: from a request's body to a submitted job or an answered query."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shipway_common.logsetup import log_context
from shipway_launcher.carriers import queues, resources
from shipway_launcher.carriers.damper import ReasonDamper
from shipway_launcher.carriers.shelf import Query, QueryShelf, new_query_id
from shipway_launcher.carriers.table import Carrier, Purpose, choose_carrier, manager_of
from shipway_launcher.config import LauncherSettings
from shipway_launcher.dispatches.end import Ender
from shipway_launcher.dispatches.files import check_dispatch_id
from shipway_launcher.dispatches.prepare import Prepared, Site, prepare
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.submit import Submitter, refusal_text
from shipway_launcher.errors import (
    BackendError,
    LaunchFailed,
    StorageError,
    TransportError,
    WrongRequest,
)
from shipway_launcher.locks import NamedLocks
from shipway_launcher.manifest import Manifest, parse_json, parse_manifest
from shipway_launcher.redact import redact_manifest
from shipway_launcher.slurm.backend import SlurmBackend, SlurmFacts
from shipway_launcher.slurm.rows import ClusterRows
from shipway_launcher.transport.base import Transport
from shipway_launcher.users import Users, check_user_name
from shipway_launcher.watch import Watch

log = logging.getLogger(__name__)

_CLUSTER_FOR_S = 120.0
_LONGEST_NAME = 1000
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a launch is to be like, beside its manifest."""

    user: str = ""
    """Who runs the job; empty for the launcher's own user."""
    dispatch_id: str | None = None
    scope: str = ""
    """Which master launches it, where there are several."""
    max_age_s: float | None = None
    """How old the answer to a query may be, in seconds; None: as the settings say."""


class Launches:
    """Launches manifests, a limited number at once."""

    def __init__(
        self,
        parts: Parts,
        locks: NamedLocks,
        *,
        relay_url: str | None,
        learn_job: Callable[[Mapping[str, str]], Awaitable[None]],
    ) -> None:
        """Put the parts together.

        Args:
            parts: Who does the work.
            locks: Held while a dispatch of that name is launched.
            relay_url: What jobs are told as the master's address; None leaves them the master's.
            learn_job: Is told the task's variables of each job before it is submitted.
        """
        self._parts, self._locks = parts, locks
        self._relay_url, self._learn_job = relay_url, learn_job
        self._launches = asyncio.Semaphore(parts.settings.limits.concurrent_launches)
        self._damper = ReasonDamper()
        self._cluster: ClusterRows | None = None
        self._cluster_at = 0.0
        self._asking_cluster = asyncio.Lock()

    async def launch(
        self,
        body: bytes,
        wish: Wish,
        *,
        on_known: Callable[[Dispatch], None] | None = None,
    ) -> Dispatch | Query:
        """Launch a manifest: submit its job, or answer its query.

        A launch that is repeated under its id gives the dispatch that there is.

        Args:
            body: The manifest's JSON text.
            wish: What it is to be like.
            on_known: Is given the dispatch as soon as there is a record of it.

        Raises:
            LauncherError: Nothing was launched.
        """
        data, manifest, digest = await asyncio.to_thread(_read, body)
        carrier = choose_carrier(manifest.carriers, self._parts.settings.workload_manager)
        if carrier.purpose is not Purpose.JOB:
            query = await self._query(manifest, carrier, wish)
            self._parts.shelf.put(query)
            return query
        name = check_dispatch_id(wish.dispatch_id or new_query_id())
        transport = await self._parts.users.get(wish.user)
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
                    dispatch = replace(dispatch, scope=wish.scope)
                    if manifest.has_master:
                        await self._tell_relay(manifest.environment)
                    await self._parts.registry.add(dispatch, redact_manifest(data))
                    if on_known is not None:
                        on_known(dispatch)
                    return await self._submit(dispatch, prepared, transport)

    async def _tell_relay(self, environment: Mapping[str, str]) -> None:
        try:
            await self._learn_job(environment)
        except ValueError as error:
            raise WrongRequest(f"launchParameters.environment.DET_MASTER: {error}") from error
        except OSError as error:
            raise StorageError(f"what the relay must know cannot be kept: {error}") from error

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
                f"Failed to launch payload {dispatch.payload} -"
                f" {refusal_text(error, manager_of(dispatch.carrier))}"
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

    async def _recent_cluster(self, max_age_s: float) -> ClusterRows:
        """Return partitions and nodes as they were at most so long before this call."""
        oldest = time.monotonic() - max_age_s
        async with self._asking_cluster:
            if self._cluster is None or self._cluster_at < oldest:
                return await self._ask_cluster()
            return self._cluster

    async def _ask_cluster(self) -> ClusterRows:
        asked_at = time.monotonic()
        self._cluster = await self._parts.slurm.cluster()
        self._cluster_at = asked_at
        return self._cluster

    async def _query(self, manifest: Manifest, carrier: Carrier, wish: Wish) -> Query:
        if max(len(manifest.client), len(manifest.payload)) > _LONGEST_NAME:
            raise WrongRequest(f"the names in a query have {_LONGEST_NAME} characters at most")
        owner = check_user_name(wish.user) if wish.user else self._parts.users.own.user
        max_age_s = wish.max_age_s
        if max_age_s is None:
            max_age_s = self._parts.settings.watch.max_age_s
        if carrier.purpose is Purpose.RESOURCES:
            cluster = await self._recent_cluster(max_age_s)
            name, text = resources.LOG_NAME, resources.render_resources(cluster)
        else:
            seen = await self._parts.watch.recent(max_age_s)
            name, text = queues.LOG_NAME, queues.render_queues(self._damper.damp(seen.jobs()))
        return Query(
            id=new_query_id(),
            owner=owner,
            name=manifest.client,
            payload=manifest.payload,
            carrier=carrier.class_name,
            scope=wish.scope,
            log_name=name,
            text=text,
            at=now(),
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
        pbs=settings.pbs,
        batch=settings.batch,
        archives_limit_bytes=settings.limits.archives_mib << 20,
        relay_url=relay_url,
        relay_trust_file=settings.relay.listen_tls.trust_file,
        relay_certificate_name=settings.relay.listen_tls.certificate_name,
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
        warning_s=prepared.warning_s,
        digest=digest,
        created_at=at,
        state=DispatchState.PENDING,
        submission=Submission.PREPARING,
        updated_at=at,
    )
