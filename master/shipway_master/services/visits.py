"""What users looked at last."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.workspaces import ProjectRow, ProjectVisitRow
from shipway_master.workspaces.rights import get_project
from shipway_master.workspaces.views import load_projects
from shipway_proto.determined.api.v1.project_pb2 import (
    GetProjectsByUserActivityRequest,
    GetProjectsByUserActivityResponse,
)
from shipway_proto.determined.api.v1.user_pb2 import (
    PostUserActivityRequest,
    PostUserActivityResponse,
)
from shipway_proto.determined.user.v1.user_pb2 import ACTIVITY_TYPE_GET, ENTITY_TYPE_PROJECT


class VisitService:
    """The RPCs by which pages offer again what a user looked at."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def PostUserActivity(
        self, request: PostUserActivityRequest, call: Call
    ) -> PostUserActivityResponse:
        """Remember that the caller looked at a project."""
        kinds = request.activity_type, request.entity_type
        if kinds != (ACTIVITY_TYPE_GET, ENTITY_TYPE_PROJECT):
            raise InvalidArgument("only looking at projects is remembered")

        async def note(session: AsyncSession) -> None:
            await get_project(session, request.entity_id)
            await session.merge(
                ProjectVisitRow(
                    user_id=call.principal.user_id,
                    project_id=request.entity_id,
                    visited_at=datetime.now(UTC),
                )
            )

        await write_looking(self._database, note)
        return PostUserActivityResponse()

    async def GetProjectsByUserActivity(
        self, request: GetProjectsByUserActivityRequest, call: Call
    ) -> GetProjectsByUserActivityResponse:
        """List the projects that the caller looked at, the last one first; limit 0 gives all."""
        if request.limit < 0:
            raise InvalidArgument("limit must be 0 or more")
        visits = (
            select(ProjectVisitRow.project_id)
            .where(ProjectVisitRow.user_id == call.principal.user_id)
            .order_by(ProjectVisitRow.visited_at.desc(), ProjectVisitRow.project_id)
            .limit(request.limit or None)
        )
        async with self._database.reading() as session:
            ids = list(await session.scalars(visits))
            projects = await load_projects(session, ProjectRow.id.in_(ids))
        projects.sort(key=lambda project: ids.index(project.id))
        return GetProjectsByUserActivityResponse(projects=projects)
