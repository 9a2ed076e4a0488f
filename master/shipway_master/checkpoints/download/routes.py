"""Checkpoints as archives, and what another policy would remove: routes beside the API."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from aiohttp import web

from shipway_master.auth import Authenticator, find_token
from shipway_master.checkpoints.choice import choose
from shipway_master.checkpoints.download.archive import FORMS, pack
from shipway_master.checkpoints.download.places import opened_source
from shipway_master.checkpoints.download.source import SourceError
from shipway_master.checkpoints.policy import Policy
from shipway_master.checkpoints.records import CheckpointRecords
from shipway_master.checkpoints.state import CheckpointState
from shipway_master.checkpoints.storages import find_storage
from shipway_master.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)
from shipway_master.gateway.rest import lower_headers
from shipway_master.gateway.site import message_response, require_user
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.trialmetrics.facts import read_searcher_metric

log = logging.getLogger(__name__)

_MOST = 2**31 - 1
_THREADS = 4


class CheckpointRoutes:
    """What is asked for by path; every user may read all checkpoints."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database, self._authenticator = database, authenticator
        self._records = CheckpointRecords(database)
        # Apart from the threads of all others, so that a folder that hangs stops downloads only.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="checkpoints")

    def routes(self) -> list[web.RouteDef]:
        """List the routes for the site."""
        return [
            web.get("/checkpoints/{uuid}", self._download),
            web.get("/experiments/{id}/preview_gc", self._preview),
        ]

    async def _download(self, request: web.Request) -> web.StreamResponse:
        await self._require_known(request)
        media_type = _choose_form(request.headers.get("Accept", ""))
        if media_type is None:
            return message_response(415, f"Accept must name one of {', '.join(FORMS)}")
        found = await self._records.get(request.match_info["uuid"])
        uuid = found.row.uuid
        if found.row.state == CheckpointState.DELETED.value:
            raise FailedPrecondition(f"checkpoint {uuid} has been deleted")
        async with self._database.reading() as session:
            storage = await find_storage(session, found.row, found.experiment)
        form = FORMS[media_type]
        try:
            async with (
                opened_source(storage, uuid, pool=self._pool) as source,
                aclosing(pack(source, form.make_packer())) as pieces,
            ):
                name = f"{uuid}.{form.suffix}"
                return await _send(request, pieces, media_type=media_type, name=name)
        except SourceError as error:
            raise FailedPrecondition(f"checkpoint {uuid}: {error}") from error

    async def _preview(self, request: web.Request) -> web.Response:
        await require_user(request, self._authenticator)
        experiment_id = _read_number(request.match_info["id"], "experiment id")
        names = ("save_experiment_best", "save_trial_best", "save_trial_latest")
        policy = Policy(**{name: _read_number(request.query.get(name), name) for name in names})
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, experiment_id)
            if experiment is None:
                raise NotFound("experiment", experiment_id)
            removed = [one.row for one in await choose(session, experiment, policy)]
        judged_by = read_searcher_metric(experiment.config)
        return web.json_response(
            {
                "checkpoints": [
                    {
                        "ID": row.id,
                        "UUID": row.uuid,
                        "TrialID": row.trial_id,
                        "StepsCompleted": row.steps_completed,
                        "State": row.state,
                        "ReportTime": row.reported_at.isoformat(),
                        "Resources": row.resources,
                    }
                    for row in removed
                ],
                "metric_name": "" if judged_by is None else judged_by.name,
            }
        )

    async def _require_known(self, request: web.Request) -> None:
        """Let users and tasks ask: the client in a task has the task's token."""
        token = find_token(lower_headers(request), cookie=request.cookies.get("auth"))
        if (await self._authenticator.principal(token)).has_ended:
            raise Unauthenticated("invalid credentials")


async def _send(
    request: web.Request, pieces: AsyncGenerator[bytes], *, media_type: str, name: str
) -> web.StreamResponse:
    """Send an archive. What fails before its first byte is told; after that, it breaks off."""
    first = await anext(pieces)
    disposition = f'attachment; filename="{name}"'
    response = web.StreamResponse(
        headers={"Content-Type": media_type, "Content-Disposition": disposition}
    )
    try:
        await response.prepare(request)
        await response.write(first)
        async for piece in pieces:
            if piece:
                await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        log.debug("the reader of a checkpoint hung up")
    except SourceError as error:
        log.warning("a download breaks off", extra={"file": name, "error": str(error)})
        if request.transport is not None:
            request.transport.abort()  # an end in good order would look like the whole archive
    return response


def _choose_form(accept: str) -> str | None:
    """Choose the media type of the archive; None: nothing that there is was asked for."""
    wanted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for one in wanted:
        if one in FORMS:
            return one
    is_open = any(one in ("", "*/*", "application/*") for one in wanted)
    return next(iter(FORMS)) if is_open else None


def _read_number(text: str | None, name: str) -> int:
    if text is None or not (text.isascii() and text.isdigit()) or int(text) > _MOST:
        raise InvalidArgument(f"{name} must be a whole number, 0 or more")
    return int(text)
