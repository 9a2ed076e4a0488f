"""Who is asking: tokens, and the people and tasks behind them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select, update

from shipway_master.errors import InvalidArgument, PermissionDenied, Unauthenticated
from shipway_master.store.database import Database
from shipway_master.store.users import AccessTokenRow, AllocationTokenRow, SessionRow, UserRow

SESSION_LIFETIME = timedelta(days=7)
LATE_LOGS_LIFETIME = timedelta(minutes=10)
"""How long the last lines and readings of an ended allocation are taken, which may come late."""

OPEN_RPCS = frozenset({"Login", "GetMaster", "GetTelemetry"})
"""What may be called without a token."""

LATE_RPCS = frozenset({"PostTaskLogs", "PostTrialProfilerMetricsBatch"})
"""What the token of an ended allocation may still call."""

_CACHE_LIMIT = 10_000
_PREFIX = "Bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whoever a request acts for: a user, either himself or through one of his tasks."""

    user_id: int
    username: str
    is_admin: bool
    session_id: int | None = None
    access_token_id: int | None = None
    allocation_id: str | None = None
    """Set when the token was a task's; the rights are its owner's all the same."""
    has_ended: bool = False
    """The allocation has ended: only `LATE_RPCS` are left to it."""

    def require_admin(self) -> None:
        """Raise PermissionDenied unless this is an administrator."""
        if not self.is_admin:
            raise PermissionDenied("only admin privileged users can perform this action")

    def require_owner_or_admin(self, owner_id: int) -> None:
        """Raise PermissionDenied unless *owner_id* is this user, or an administrator asks."""
        if owner_id != self.user_id and not self.is_admin:
            raise PermissionDenied("user does not have permission")

    def require_person(self) -> None:
        """Raise PermissionDenied if this is a task: its rights end with it.

        What a task could make for itself (tokens, passwords, users) would not.
        """
        if self.allocation_id is not None:
            raise PermissionDenied("a task may not do this; log in as a user")

    def require_run(self, allocation_id: str) -> None:
        """Raise PermissionDenied if this is a task, and not that very run of it."""
        if self.allocation_id not in (None, allocation_id):
            raise PermissionDenied(f"{self.allocation_id} may not speak for {allocation_id}")


def find_token(headers: Mapping[str, str], *, cookie: str | None = None) -> str | None:
    """Take the token out of a request, by the order of precedence of its carriers.

    Args:
        headers: By lower-case name. Over gRPC, metadata has no `grpc-metadata-` before its names;
            both spellings are taken on both faces.
        cookie: Value of the cookie `auth`, which counts only where no `Authorization` is.

    Raises:
        Unauthenticated: A carrier is there, but not in the form `Bearer TOKEN`.
    """
    for name in ("grpc-metadata-x-user-token", "x-user-token", "authorization"):
        if name in headers:
            return _bearer(headers[name])
    if cookie:
        return cookie
    for name in ("grpc-metadata-x-allocation-token", "x-allocation-token"):
        if name in headers:
            return _bearer(headers[name])
    return None


def _bearer(value: str) -> str:
    if not value.startswith(_PREFIX):
        raise Unauthenticated("invalid credentials")
    return value[len(_PREFIX) :]


class Authenticator:
    """Issues, checks and revokes tokens; only their hashes are kept.

    Checked tokens are remembered, because each request has one: whoever changes a user calls
    `forget_user`. All changes go through this process, so nothing else can make the memory wrong.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[Principal, datetime | None]] = {}
        self._forgotten = 0

    async def principal(self, token: str | None) -> Principal:
        """Tell whose *token* this is.

        Raises:
            Unauthenticated: It is missing, unknown or expired.
            PermissionDenied: The user behind it has been deactivated.
        """
        if token is None:
            raise Unauthenticated("token missing")
        hashed = _hash(token)
        known = self._known.get(hashed)
        if known is None:
            forgotten = self._forgotten
            known = await self._look_up(hashed)
            if forgotten == self._forgotten:  # else what was read may already be wrong
                self._remember(hashed, known)
        principal, expires_at = known
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise Unauthenticated("invalid credentials")
        return principal

    async def start_session(self, user_id: int) -> tuple[str, datetime]:
        """Log *user_id* in: return a new token and when it ends. Ended sessions are swept out."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        async with self._database.writing() as session:
            await session.execute(delete(SessionRow).where(SessionRow.expires_at <= now))
            expires_at = now + SESSION_LIFETIME
            session.add(SessionRow(token_hash=_hash(token), user_id=user_id, expires_at=expires_at))
            user = await session.get_one(UserRow, user_id)
            user.last_auth_at = now
        return token, expires_at

    async def end_session(self, principal: Principal) -> None:
        """Log *principal* out.

        An access token is no log-in: it stays until it is revoked.

        Raises:
            InvalidArgument: It is a task, which has no session.
        """
        if principal.allocation_id is not None:
            raise InvalidArgument("an allocation token cannot be logged out")
        if principal.session_id is None:
            return
        async with self._database.writing() as session:
            await session.execute(delete(SessionRow).where(SessionRow.id == principal.session_id))
        self._forget(lambda known: known.session_id == principal.session_id)

    async def issue_access_token(
        self, user_id: int, *, lifespan: timedelta, description: str
    ) -> tuple[str, int]:
        """Make a token for programs of *user_id*; returns it and its id."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        row = AccessTokenRow(
            token_hash=_hash(token),
            user_id=user_id,
            created_at=now,
            expires_at=now + lifespan,
            description=description,
        )
        async with self._database.writing() as session:
            session.add(row)
        return token, row.id

    def forget_access_token(self, token_id: int) -> None:
        """Look an access token up anew at its next use: it has been revoked."""
        self._forget(lambda known: known.access_token_id == token_id)

    async def issue_allocation_token(self, allocation_id: str, *, owner_id: int) -> str:
        """Make a token for the processes of *allocation_id*; it acts as the user *owner_id*."""
        token = secrets.token_urlsafe(32)
        async with self._database.writing() as session:
            session.add(
                AllocationTokenRow(
                    token_hash=_hash(token), allocation_id=allocation_id, user_id=owner_id
                )
            )
        return token

    async def end_allocation_tokens(self, allocation_id: str) -> None:
        """Leave only `LATE_RPCS` to the tokens of *allocation_id*, and those not for long."""
        now = datetime.now(UTC)
        of_allocation = AllocationTokenRow.allocation_id == allocation_id
        async with self._database.writing() as session:
            await session.execute(
                delete(AllocationTokenRow).where(
                    AllocationTokenRow.ended_at <= now - LATE_LOGS_LIFETIME
                )
            )
            await session.execute(
                update(AllocationTokenRow).where(of_allocation).values(ended_at=now)
            )
        self._forget(lambda known: known.allocation_id == allocation_id)

    def forget_user(self, user_id: int) -> None:
        """Look *user_id* up anew at his next request: something about him has changed."""
        self._forget(lambda known: known.user_id == user_id)

    def _remember(self, hashed: str, known: tuple[Principal, datetime | None]) -> None:
        if len(self._known) >= _CACHE_LIMIT:
            self._known.clear()
        self._known[hashed] = known

    def _forget(self, is_meant: Callable[[Principal], bool]) -> None:
        self._forgotten += 1
        for hashed in [key for key, (known, _) in self._known.items() if is_meant(known)]:
            del self._known[hashed]

    async def _look_up(self, hashed: str) -> tuple[Principal, datetime | None]:
        by_session = (
            select(SessionRow, UserRow)
            .join(UserRow, UserRow.id == SessionRow.user_id)
            .where(SessionRow.token_hash == hashed)
        )
        by_allocation = (
            select(AllocationTokenRow, UserRow)
            .join(UserRow, UserRow.id == AllocationTokenRow.user_id)
            .where(AllocationTokenRow.token_hash == hashed)
        )
        by_access_token = (
            select(AccessTokenRow, UserRow)
            .join(UserRow, UserRow.id == AccessTokenRow.user_id)
            .where(AccessTokenRow.token_hash == hashed, ~AccessTokenRow.is_revoked)
        )
        async with self._database.reading() as session:
            if found := (await session.execute(by_session)).one_or_none():
                row, user = found
                return _principal(user, session_id=row.id), row.expires_at
            if made := (await session.execute(by_access_token)).one_or_none():
                made_row, user = made
                return _principal(user, access_token_id=made_row.id), made_row.expires_at
            if task := (await session.execute(by_allocation)).one_or_none():
                token, user = task
                ended_at = token.ended_at
                principal = _principal(
                    user, allocation_id=token.allocation_id, has_ended=ended_at is not None
                )
                return principal, ended_at and ended_at + LATE_LOGS_LIFETIME
        raise Unauthenticated("invalid credentials")


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _principal(
    user: UserRow,
    *,
    session_id: int | None = None,
    access_token_id: int | None = None,
    allocation_id: str | None = None,
    has_ended: bool = False,
) -> Principal:
    if not user.active:
        raise PermissionDenied("user does not have permission")
    return Principal(
        user_id=user.id,
        username=user.username,
        is_admin=user.admin,
        session_id=session_id,
        access_token_id=access_token_id,
        allocation_id=allocation_id,
        has_ended=has_ended,
    )
