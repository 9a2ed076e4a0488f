"""Who may do what: tokens, owners and access lists."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from aiohttp import web

from shipway_launcher.acls import AclBook, Level, Stage
from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.errors import Forbidden, NotFound
from shipway_launcher.service import Launcher
from shipway_launcher.tokenbook import TokenEntry

_caller: ContextVar[TokenEntry] = ContextVar("shipway_caller")


@dataclass(frozen=True, slots=True)
class Access:
    """Decides about requests."""

    launcher: Launcher
    acls: AclBook

    def find(self, request: web.Request, level: Level) -> Dispatch | Query:
        """Return the environment that a request is about.

        Raises:
            Forbidden: The caller may not do this with it, or would not be told of it.
            NotFound: There is none.
        """
        owner, name = request.match_info["owner"], request.match_info["environment"]
        found = self.launcher.find(owner, name)
        if found is None:
            self._require_any(current_caller(), owner, level)
            raise NotFound(f"{owner[:80]} has no environment {name[:200]}")
        is_own_query = isinstance(found, Query) and found.owner == current_caller().user
        if not is_own_query:  # which anybody may ask and clear away
            self.require(current_caller(), owner, level, stage_of(found))
        return found

    def require(self, caller: TokenEntry, owner: str, level: Level, stage: Stage) -> None:
        """See to it that a caller may do this with what an owner has.

        Raises:
            Forbidden: It may not.
        """
        if not self.may(caller, owner, level, stage):
            if caller.is_read_only and level is not Level.READ:
                raise Forbidden("the token is for reading only")
            raise Forbidden(
                f"{caller.user} has no {level} access to the {stage} environments of {owner[:80]}"
            )

    def may(self, caller: TokenEntry, owner: str, level: Level, stage: Stage) -> bool:
        """Say whether a caller may do this with what an owner has."""
        if caller.is_read_only and level is not Level.READ:
            return False
        if caller.is_admin or caller.user == owner:
            return True
        return self.acls.get(owner, stage).allow(caller.user, level)

    def _require_any(self, caller: TokenEntry, owner: str, level: Level) -> None:
        if not self.may(caller, owner, level, Stage.TERMINATED):
            self.require(caller, owner, level, Stage.RUNNING)


def require_admin(*, is_change: bool) -> None:
    """See to it that an administrator calls.

    Raises:
        Forbidden: It is somebody else, or the token is for reading only.
    """
    caller = current_caller()
    if not caller.is_admin:
        raise Forbidden("this is for administrators of the launcher only")
    if is_change and caller.is_read_only:
        raise Forbidden("the token is for reading only")


def runs_as(caller: TokenEntry, impersonate: str) -> str:
    """Return as whom a launch of this caller runs; empty for the launcher's own user.

    Raises:
        Forbidden: The caller may not act for that user.
    """
    if caller.is_admin:
        return impersonate
    if impersonate not in ("", caller.user):
        raise Forbidden(
            f"impersonate: {caller.user} is no administrator of the launcher and cannot act for"
            f" {impersonate[:80]!r}"
        )
    return caller.user


def stage_of(found: Dispatch | Query) -> Stage:
    """Return whose access lists count; an answered query is one that has ended."""
    if isinstance(found, Query) or found.state.is_final:
        return Stage.TERMINATED
    return Stage.RUNNING


def current_caller() -> TokenEntry:
    """Return whose request this is; each but those below /info/ is somebody's."""
    return _caller.get()


def set_caller(caller: TokenEntry) -> None:
    """Note whose request this is."""
    _caller.set(caller)
