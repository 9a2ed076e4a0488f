"""Calls about many users at once."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from shipway_master.auth import Authenticator
from shipway_master.errors import Unimplemented
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_proto.determined.api.v1.group_pb2 import (
    AssignMultipleGroupsRequest,
    AssignMultipleGroupsResponse,
)
from shipway_proto.determined.api.v1.user_pb2 import (
    PatchUsersRequest,
    PatchUsersResponse,
    UserActionResult,
    UserFilters,
)


class ManyUsersService:
    """The RPCs that are about many users, and answer for each."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database, self._authenticator = database, authenticator

    async def PatchUsers(self, request: PatchUsersRequest, call: Call) -> PatchUsersResponse:
        """Let users log in, or no longer: those with the ids, or all that match the filters."""
        call.principal.require_admin()
        results: list[UserActionResult] = []
        async with self._database.writing() as session:
            rows = {row.id: row for row in await session.scalars(select(UserRow))}
            wanted = list(dict.fromkeys(request.user_ids))
            if request.HasField("filters"):
                wanted = [row.id for row in rows.values() if _matches(row, request.filters)]
            for user_id in wanted:
                row = rows.get(user_id)
                if row is None:
                    error = f"user '{user_id}' not found"
                elif user_id == call.principal.user_id and not request.activate:
                    error = "users cannot deactivate themselves"
                else:
                    error = ""
                    row.active, row.modified_at = request.activate, datetime.now(UTC)
                results.append(UserActionResult(id=user_id, error=error))
        for result in results:
            self._authenticator.forget_user(result.id)
        return PatchUsersResponse(results=results)

    async def AssignMultipleGroups(
        self, request: AssignMultipleGroupsRequest, call: Call
    ) -> AssignMultipleGroupsResponse:
        """Say that there are no groups."""
        raise Unimplemented(
            "this master has no groups of users: owners and administrators have the rights"
        )


def _matches(row: UserRow, filters: UserFilters) -> bool:
    name = filters.name.casefold()
    return (
        not name or name in row.username.casefold() or name in row.display_name.casefold()
    ) and (not filters.HasField("admin") or row.admin == filters.admin)
