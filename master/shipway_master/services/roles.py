"""Roles and groups, of which there are none: owners and administrators have the rights."""

from __future__ import annotations

from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.workspaces.rights import get_workspace
from shipway_proto.determined.api.v1 import group_pb2, rbac_pb2
from shipway_proto.determined.api.v1.pagination_pb2 import Pagination

_GROUPS_AT_ONCE = range(1, 501)
_NONE: tuple[str, ...] = ()


class RoleService:
    """The RPCs that read roles and groups; those that would change some are not implemented."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetPermissionsSummary(
        self, request: rbac_pb2.GetPermissionsSummaryRequest, call: Call
    ) -> rbac_pb2.GetPermissionsSummaryResponse:
        """Say that the caller has no roles."""
        return rbac_pb2.GetPermissionsSummaryResponse()

    async def GetGroupsAndUsersAssignedToWorkspace(
        self, request: rbac_pb2.GetGroupsAndUsersAssignedToWorkspaceRequest, call: Call
    ) -> rbac_pb2.GetGroupsAndUsersAssignedToWorkspaceResponse:
        """Say that nobody has a role in a workspace."""
        async with self._database.reading() as session:
            await get_workspace(session, request.workspace_id)
        return rbac_pb2.GetGroupsAndUsersAssignedToWorkspaceResponse()

    async def GetRolesByID(
        self, request: rbac_pb2.GetRolesByIDRequest, call: Call
    ) -> rbac_pb2.GetRolesByIDResponse:
        """Refuse any role."""
        if request.role_ids:
            raise NotFound("role", request.role_ids[0])
        return rbac_pb2.GetRolesByIDResponse()

    async def GetRolesAssignedToUser(
        self, request: rbac_pb2.GetRolesAssignedToUserRequest, call: Call
    ) -> rbac_pb2.GetRolesAssignedToUserResponse:
        """Say that a user has no roles."""
        return rbac_pb2.GetRolesAssignedToUserResponse()

    async def GetRolesAssignedToGroup(
        self, request: rbac_pb2.GetRolesAssignedToGroupRequest, call: Call
    ) -> rbac_pb2.GetRolesAssignedToGroupResponse:
        """Refuse any group."""
        raise NotFound("group", request.group_id)

    async def SearchRolesAssignableToScope(
        self, request: rbac_pb2.SearchRolesAssignableToScopeRequest, call: Call
    ) -> rbac_pb2.SearchRolesAssignableToScopeResponse:
        """List no roles."""
        pagination = _cut_nothing(request.offset, request.limit)
        return rbac_pb2.SearchRolesAssignableToScopeResponse(pagination=pagination)

    async def ListRoles(
        self, request: rbac_pb2.ListRolesRequest, call: Call
    ) -> rbac_pb2.ListRolesResponse:
        """List no roles."""
        pagination = _cut_nothing(request.offset, request.limit)
        return rbac_pb2.ListRolesResponse(pagination=pagination)

    async def GetGroup(
        self, request: group_pb2.GetGroupRequest, call: Call
    ) -> group_pb2.GetGroupResponse:
        """Refuse any group."""
        raise NotFound("group", request.group_id)

    async def GetGroups(
        self, request: group_pb2.GetGroupsRequest, call: Call
    ) -> group_pb2.GetGroupsResponse:
        """List no groups."""
        if request.limit not in _GROUPS_AT_ONCE:
            raise InvalidArgument(f"limit must be from 1 to 500, not {request.limit}")
        pagination = _cut_nothing(request.offset, request.limit)
        return group_pb2.GetGroupsResponse(pagination=pagination)


def _cut_nothing(offset: int, limit: int) -> Pagination:
    return cut_page(_NONE, offset=offset, limit=limit)[1]
