"""Who asks: everybody who could, each by a token of his own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from shipway_master.auth import Authenticator
from tests.master.running import ADMIN_ID, USER_ID, MasterUnderTest


class Caller(StrEnum):
    """Somebody with a token, or without."""

    NOBODY = "nobody"
    UNKNOWN = "somebody with a token that nobody made"
    LOGGED_OUT = "a user who has logged out"
    REVOKED = "somebody with a revoked access token"
    DEACTIVATED = "a deactivated user"
    ENDED = "an ended allocation of the owner"
    STRANGER = "another user"
    STRANGERS_TASK = "an allocation of another user"
    OWNER = "the owner"
    OWNERS_PROGRAM = "an access token of the owner"
    SIBLING = "another allocation of the owner"
    OTHER_TRIAL = "an allocation of another trial of the owner"
    SELF = "the allocation itself"
    ADMIN = "an administrator"


OWNER_ID: Final = USER_ID


@dataclass(frozen=True)
class Callers:
    """The tokens, and the ids of users."""

    tokens: dict[Caller, str | None]
    stranger_id: int

    async def log_in_again(self, authenticator: Authenticator) -> None:
        """Start new sessions, after all have been logged out."""
        users = {
            Caller.STRANGER: self.stranger_id,
            Caller.OWNER: OWNER_ID,
            Caller.ADMIN: ADMIN_ID,
        }
        for caller, user_id in users.items():
            self.tokens[caller], _ = await authenticator.start_session(user_id)


async def make_callers(
    master: MasterUnderTest,
    authenticator: Authenticator,
    *,
    sibling: str,
    trial: str,
    strangers: str,
    ended: str,
) -> Callers:
    """Make all users and tokens but the one of `SELF`, whose allocation is another each time.

    Args:
        sibling: An allocation of the owner.
        trial: An allocation of a trial of the owner.
        strangers: An allocation that is made the other user's.
        ended: An allocation of the owner that has ended.
    """
    ids = {name: await _make_user(master, name) for name in ("stranger", "left", "gone")}

    async def log_in(user_id: int) -> str:
        return (await authenticator.start_session(user_id))[0]

    async def act_for(allocation_id: str, user_id: int) -> str:
        return await authenticator.issue_allocation_token(allocation_id, owner_id=user_id)

    tokens: dict[Caller, str | None] = {
        Caller.NOBODY: None,
        Caller.UNKNOWN: "made-up",
        Caller.LOGGED_OUT: await log_in(ids["gone"]),
        Caller.DEACTIVATED: await log_in(ids["left"]),
        Caller.ENDED: await act_for(ended, OWNER_ID),
        Caller.STRANGER: await log_in(ids["stranger"]),
        Caller.STRANGERS_TASK: await act_for(strangers, ids["stranger"]),
        Caller.OWNER: await log_in(OWNER_ID),
        Caller.SIBLING: await act_for(sibling, OWNER_ID),
        Caller.OTHER_TRIAL: await act_for(trial, OWNER_ID),
        Caller.ADMIN: await log_in(ADMIN_ID),
    }
    await authenticator.end_allocation_tokens(ended)
    tokens[Caller.OWNERS_PROGRAM], _ = await _make_access_token(master)
    tokens[Caller.REVOKED], revoked_id = await _make_access_token(master)
    await _done(master, "PATCH", f"/tokens/{revoked_id}", {"setRevoked": True})
    await _done(master, "PATCH", f"/users/{ids['left']}", {"active": False})
    logged_out = tokens[Caller.LOGGED_OUT]
    assert logged_out is not None
    assert (await master.call("POST", "/auth/logout", token=logged_out)).status == 200
    return Callers(tokens, stranger_id=ids["stranger"])


async def _make_user(master: MasterUnderTest, name: str) -> int:
    made = await _done(master, "POST", "/users", {"user": {"username": name, "active": True}})
    user_id: int = made["user"]["id"]
    return user_id


async def _make_access_token(master: MasterUnderTest) -> tuple[str, int]:
    made = await _done(master, "POST", "/tokens", {"userId": OWNER_ID})
    return made["token"], made["tokenId"]


async def _done(master: MasterUnderTest, verb: str, path: str, body: Any) -> dict[str, Any]:
    answer = await master.call(verb, path, body)
    assert answer.status == 200, answer.body
    made: dict[str, Any] = answer.json
    return made
