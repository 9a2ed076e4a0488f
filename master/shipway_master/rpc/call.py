"""What a method is told besides its request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shipway_master.auth import Principal
from shipway_master.errors import Unauthenticated

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(slots=True, kw_only=True)
class Call:
    """One call in progress. When the caller hangs up, streams and long polls are cancelled."""

    rpc: str
    known_principal: Principal | None
    """Who asks; None only in the RPCs that are open to all."""
    set_cookies: list[str] = field(default_factory=list[str])
    """Values of `Set-Cookie` headers for the answer; they go out over HTTP only."""
    shares_answer: bool = False
    """Set by a method that returns one and the same message to many callers at about the same
    time: it is then written only once."""

    @property
    def principal(self) -> Principal:
        """Who asks.

        Raises:
            Unauthenticated: Nobody; possible only in the RPCs that are open to all.
        """
        if self.known_principal is None:
            raise Unauthenticated("token missing")
        return self.known_principal


def long_poll(function: Function) -> Function:
    """Mark a unary method that waits for something to happen and changes nothing by itself.

    It is cancelled when its caller hangs up, while other methods run to their end.
    """
    function.__dict__["is_long_poll"] = True
    return function
