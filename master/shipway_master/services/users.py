"""Users: who they are, making and changing them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from shipway_master.auth import Authenticator, Principal
from shipway_master.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from shipway_master.pages import cut_page
from shipway_master.passwords import hash_password
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.user_pb2 import (
    GetMeRequest,
    GetMeResponse,
    GetUserByUsernameRequest,
    GetUserByUsernameResponse,
    GetUserRequest,
    GetUserResponse,
    GetUsersRequest,
    GetUsersResponse,
    PatchUserRequest,
    PatchUserResponse,
    PostUserRequest,
    PostUserResponse,
    SetUserPasswordRequest,
    SetUserPasswordResponse,
)
from shipway_proto.determined.user.v1 import user_pb2
from shipway_proto.determined.user.v1.user_pb2 import AgentUserGroup, User

_SORT_KEYS: dict[int, Callable[[UserRow], Any]] = {
    GetUsersRequest.SORT_BY_DISPLAY_NAME: lambda row: row.display_name.casefold(),
    GetUsersRequest.SORT_BY_USER_NAME: lambda row: row.username,
    GetUsersRequest.SORT_BY_ADMIN: lambda row: row.admin,
    GetUsersRequest.SORT_BY_ACTIVE: lambda row: row.active,
    GetUsersRequest.SORT_BY_MODIFIED_TIME: lambda row: row.modified_at,
    GetUsersRequest.SORT_BY_NAME: lambda row: (row.display_name or row.username).casefold(),
    GetUsersRequest.SORT_BY_LAST_AUTH_TIME: lambda row: (
        row.last_auth_at or datetime.min.replace(tzinfo=UTC)
    ),
    GetUsersRequest.SORT_BY_REMOTE: lambda row: row.remote,
}


class UserService:
    """The RPCs of users."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database, self._authenticator = database, authenticator

    async def GetMe(self, request: GetMeRequest, call: Call) -> GetMeResponse:
        """Tell who is asking."""
        user = await get_user(self._database, call.principal.user_id)
        return GetMeResponse(user=user_message(user))

    async def GetUser(self, request: GetUserRequest, call: Call) -> GetUserResponse:
        """Find a user by id."""
        return GetUserResponse(user=user_message(await get_user(self._database, request.user_id)))

    async def GetUserByUsername(
        self, request: GetUserByUsernameRequest, call: Call
    ) -> GetUserByUsernameResponse:
        """Find a user by name."""
        user = await find_user(self._database, request.username)
        return GetUserByUsernameResponse(user=user_message(user))

    async def GetUsers(self, request: GetUsersRequest, call: Call) -> GetUsersResponse:
        """List users."""
        if request.role_id_assigned_directly_to_user:
            raise InvalidArgument("there are no roles here to filter by")
        async with self._database.reading() as session:
            rows = list(await session.scalars(select(UserRow).order_by(UserRow.id)))
        name = request.name.casefold()
        rows = [
            row
            for row in rows
            if (not name or name in row.username.casefold() or name in row.display_name.casefold())
            and (not request.HasField("active") or row.active == request.active)
            and (not request.HasField("admin") or row.admin == request.admin)
        ]
        by = _SORT_KEYS.get(request.sort_by, lambda row: row.id)
        rows.sort(key=by, reverse=request.order_by == ORDER_BY_DESC)
        page, pagination = cut_page(rows, offset=request.offset, limit=request.limit)
        return GetUsersResponse(users=[user_message(row) for row in page], pagination=pagination)

    async def PostUser(self, request: PostUserRequest, call: Call) -> PostUserResponse:
        """Create a user."""
        call.principal.require_person()
        call.principal.require_admin()
        wanted = request.user
        _check_username(wanted.username)
        if wanted.remote and request.password:
            raise InvalidArgument("a remote user has no password here")
        row = UserRow(
            username=wanted.username,
            password_hash=await hash_password(request.password, is_hashed=request.is_hashed),
            admin=wanted.admin,
            active=wanted.active,
            remote=wanted.remote,
            display_name=wanted.display_name,
            modified_at=datetime.now(UTC),
        )
        _set_agent_user(row, wanted.agent_user_group)
        try:
            async with self._database.writing() as session:
                session.add(row)
        except IntegrityError as error:
            raise AlreadyExists(f"user '{wanted.username}' already exists") from error
        return PostUserResponse(user=user_message(row))

    async def SetUserPassword(
        self, request: SetUserPasswordRequest, call: Call
    ) -> SetUserPasswordResponse:
        """Change a password."""
        call.principal.require_person()
        call.principal.require_owner_or_admin(request.user_id)
        changes = user_pb2.PatchUser(password=request.password)
        row = await self._change(request.user_id, changes)
        return SetUserPasswordResponse(user=user_message(row))

    async def PatchUser(self, request: PatchUserRequest, call: Call) -> PatchUserResponse:
        """Change a user; everyone may change his own password and display name."""
        _check_rights(call.principal, request)
        row = await self._change(request.user_id, request.user)
        return PatchUserResponse(user=user_message(row))

    async def _change(self, user_id: int, changes: user_pb2.PatchUser) -> UserRow:
        hashed = None
        if changes.HasField("password"):
            hashed = await hash_password(changes.password, is_hashed=changes.is_hashed)
        try:
            async with self._database.writing() as session:
                row = await session.get(UserRow, user_id)
                if row is None:
                    raise NotFound("user", user_id)
                _apply(row, changes)
                if changes.HasField("password"):
                    if row.remote:
                        raise InvalidArgument("a remote user has no password here")
                    row.password_hash = hashed
        except IntegrityError as error:
            raise AlreadyExists(f"user '{changes.username}' already exists") from error
        self._authenticator.forget_user(user_id)
        return row


async def get_user(database: Database, user_id: int) -> UserRow:
    """Read a user.

    Raises:
        NotFound: There is none with this id.
    """
    async with database.reading() as session:
        row = await session.get(UserRow, user_id)
    if row is None:
        raise NotFound("user", user_id)
    return row


async def find_user(database: Database, username: str) -> UserRow:
    """Read a user by name; raises as `get_user`."""
    async with database.reading() as session:
        user = await session.scalar(select(UserRow).where(UserRow.username == username))
    if user is None:
        raise NotFound("user", username)
    return user


def user_message(row: UserRow) -> User:
    """Build what clients are told of a user."""
    user = User(
        id=row.id,
        username=row.username,
        admin=row.admin,
        active=row.active,
        display_name=row.display_name,
        remote=row.remote,
    )
    user.modified_at.FromDatetime(row.modified_at)
    if row.last_auth_at is not None:
        user.last_auth_at.FromDatetime(row.last_auth_at)
    if (group := agent_user_group(row)) is not None:
        user.agent_user_group.CopyFrom(group)
    return user


def agent_user_group(row: UserRow) -> AgentUserGroup | None:
    """Get the Unix user that *row*'s tasks run as, if one was set."""
    if row.agent_uid is None and row.agent_user is None:
        return None
    return AgentUserGroup(
        agent_uid=row.agent_uid,
        agent_gid=row.agent_gid,
        agent_user=row.agent_user,
        agent_group=row.agent_group,
    )


def _check_username(name: str) -> None:
    if not name or not name.isprintable() or name != name.strip():
        raise InvalidArgument("a username has printable characters, and no spaces around them")


def _check_rights(principal: Principal, request: PatchUserRequest) -> None:
    changes = request.user
    principal.require_person()
    principal.require_owner_or_admin(request.user_id)
    own = {"password", "is_hashed", "display_name"}
    others = {field.name for field, _ in changes.ListFields()} - own
    if others and not principal.is_admin:
        raise PermissionDenied("only admin privileged users can perform this action")
    is_leaving = changes.HasField("active") and not changes.active.value
    if is_leaving and request.user_id == principal.user_id:
        raise InvalidArgument("users cannot deactivate themselves")


def _apply(row: UserRow, changes: user_pb2.PatchUser) -> None:
    if changes.HasField("username"):
        _check_username(changes.username)
        row.username = changes.username
    if changes.HasField("admin"):
        row.admin = changes.admin.value
    if changes.HasField("active"):
        row.active = changes.active.value
    if changes.HasField("remote"):
        row.remote = changes.remote
    if changes.HasField("display_name"):
        row.display_name = changes.display_name
    if changes.HasField("agent_user_group"):
        _set_agent_user(row, changes.agent_user_group)
    row.modified_at = datetime.now(UTC)


def _set_agent_user(row: UserRow, group: AgentUserGroup) -> None:
    given = [
        group.HasField(name) for name in ("agent_uid", "agent_gid", "agent_user", "agent_group")
    ]
    if not any(given):
        return
    if not all(given):
        raise InvalidArgument("agentUserGroup needs agentUid, agentGid, agentUser and agentGroup")
    row.agent_uid, row.agent_gid = group.agent_uid, group.agent_gid
    row.agent_user, row.agent_group = group.agent_user, group.agent_group
