"""Logging in and out."""

from __future__ import annotations

from email.utils import format_datetime

from sqlalchemy import select

from shipway_master.auth import Authenticator
from shipway_master.brake import LoginBrake
from shipway_master.errors import InvalidArgument, PermissionDenied, Unauthenticated
from shipway_master.passwords import verify_password
from shipway_master.rpc import Call
from shipway_master.services.users import get_user, user_message
from shipway_master.store.database import Database
from shipway_master.store.users import UserRow
from shipway_proto.determined.api.v1.auth_pb2 import (
    CurrentUserRequest,
    CurrentUserResponse,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
)


class AuthService:
    """The RPCs of authentication."""

    def __init__(self, database: Database, authenticator: Authenticator) -> None:
        self._database, self._authenticator = database, authenticator
        self._brake = LoginBrake()

    def hang_up(self) -> None:
        """Answer the log-ins that wait for their turn: the master is to end."""
        self._brake.stop()

    async def Login(self, request: LoginRequest, call: Call) -> LoginResponse:
        """Check name and password, and start a session."""
        if not request.username:
            raise InvalidArgument("missing argument: username")
        async with self._brake.attempt(request.username) as attempt:
            async with self._database.reading() as session:
                statement = select(UserRow).where(UserRow.username == request.username)
                user = await session.scalar(statement)
            stored = user.password_hash if user is not None else None
            fits = await verify_password(stored, request.password, is_hashed=request.is_hashed)
            attempt.is_right = fits and user is not None and not user.remote
        if user is None or not attempt.is_right:
            raise Unauthenticated("invalid credentials")
        if not user.active:
            raise PermissionDenied("user is not active")
        token, expires_at = await self._authenticator.start_session(user.id)
        expires = format_datetime(expires_at, usegmt=True)
        call.set_cookies.append(f"auth={token}; Path=/; Expires={expires}; HttpOnly; SameSite=Lax")
        return LoginResponse(token=token, user=user_message(user))

    async def Logout(self, request: LogoutRequest, call: Call) -> LogoutResponse:
        """End the session that the call came with."""
        await self._authenticator.end_session(call.principal)
        call.set_cookies.append("auth=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        return LogoutResponse()

    async def CurrentUser(self, request: CurrentUserRequest, call: Call) -> CurrentUserResponse:
        """Tell who is asking."""
        user = await get_user(self._database, call.principal.user_id)
        return CurrentUserResponse(user=user_message(user))
