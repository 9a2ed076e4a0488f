"""Access tokens: what users give to their programs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from shipway_master.auth import Authenticator
from shipway_master.config import Token
from shipway_master.durations import parse_duration
from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.services.users import find_user, get_user
from shipway_master.store.database import Database
from shipway_master.store.users import AccessTokenRow
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC
from shipway_proto.determined.api.v1.token_pb2 import (
    GetAccessTokensRequest,
    GetAccessTokensResponse,
    PatchAccessTokenRequest,
    PatchAccessTokenResponse,
    PostAccessTokenRequest,
    PostAccessTokenResponse,
)
from shipway_proto.determined.user.v1.user_pb2 import TOKEN_TYPE_ACCESS_TOKEN, TokenInfo

_NEVER = "-1"

_SORT_KEYS: dict[int, Callable[[AccessTokenRow], Any]] = {
    GetAccessTokensRequest.SORT_BY_USER_ID: lambda row: row.user_id,
    GetAccessTokensRequest.SORT_BY_EXPIRY: lambda row: row.expires_at,
    GetAccessTokensRequest.SORT_BY_CREATED_AT: lambda row: row.created_at,
    GetAccessTokensRequest.SORT_BY_REVOKED: lambda row: row.is_revoked,
    GetAccessTokensRequest.SORT_BY_DESCRIPTION: lambda row: row.description.casefold(),
}


class TokenService:
    """The RPCs of access tokens."""

    def __init__(self, database: Database, authenticator: Authenticator, settings: Token) -> None:
        self._database, self._authenticator, self._settings = database, authenticator, settings

    async def PostAccessToken(
        self, request: PostAccessTokenRequest, call: Call
    ) -> PostAccessTokenResponse:
        """Make a token; it is told this once."""
        call.principal.require_person()
        call.principal.require_owner_or_admin(request.user_id)
        user = await get_user(self._database, request.user_id)
        if not user.active:
            raise InvalidArgument(f"user '{user.username}' is not active")
        asked = request.lifespan if request.HasField("lifespan") else None
        token, token_id = await self._authenticator.issue_access_token(
            user.id, lifespan=self._lifespan(asked), description=request.description
        )
        return PostAccessTokenResponse(token=token, token_id=token_id)

    async def GetAccessTokens(
        self, request: GetAccessTokensRequest, call: Call
    ) -> GetAccessTokensResponse:
        """List tokens: an administrator sees all, others see their own."""
        statement = select(AccessTokenRow).order_by(AccessTokenRow.id)
        owner_id = None if call.principal.is_admin else call.principal.user_id
        if request.username:
            owner_id = (await find_user(self._database, request.username)).id
            call.principal.require_owner_or_admin(owner_id)
        if owner_id is not None:
            statement = statement.where(AccessTokenRow.user_id == owner_id)
        async with self._database.reading() as session:
            rows = list(await session.scalars(statement))
        now = datetime.now(UTC)
        rows = [
            row
            for row in rows
            if (not request.token_ids or row.id in request.token_ids)
            and (request.show_inactive or not (row.is_revoked or row.expires_at <= now))
        ]
        by = _SORT_KEYS.get(request.sort_by, lambda row: row.id)
        rows.sort(key=by, reverse=request.order_by == ORDER_BY_DESC)
        page, pagination = cut_page(rows, offset=request.offset, limit=request.limit)
        return GetAccessTokensResponse(token_info=map(_info, page), pagination=pagination)

    async def PatchAccessToken(
        self, request: PatchAccessTokenRequest, call: Call
    ) -> PatchAccessTokenResponse:
        """Describe a token anew, or revoke it for good."""
        call.principal.require_person()
        async with self._database.writing() as session:
            row = await session.get(AccessTokenRow, request.token_id)
            if row is None:
                raise NotFound("access token", request.token_id)
            call.principal.require_owner_or_admin(row.user_id)
            if request.HasField("description"):
                row.description = request.description
            if request.set_revoked:
                row.is_revoked = True
        self._authenticator.forget_access_token(row.id)
        return PatchAccessTokenResponse(token_info=_info(row))

    def _lifespan(self, asked: str | None) -> timedelta:
        longest = timedelta(days=self._settings.max_lifespan_days)
        if asked is None:
            return timedelta(days=self._settings.default_lifespan_days)
        if asked == _NEVER:
            return longest
        lifespan = parse_duration(asked)
        if not timedelta(0) < lifespan <= longest:
            days = self._settings.max_lifespan_days
            raise InvalidArgument(f"a token lives longer than no time and at most {days} days")
        return lifespan


def _info(row: AccessTokenRow) -> TokenInfo:
    info = TokenInfo(
        id=row.id,
        user_id=row.user_id,
        token_type=TOKEN_TYPE_ACCESS_TOKEN,
        revoked=row.is_revoked,
        description=row.description,
    )
    info.expiry.FromDatetime(row.expires_at)
    info.created_at.FromDatetime(row.created_at)
    return info
