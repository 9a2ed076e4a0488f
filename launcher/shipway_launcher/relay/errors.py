"""What can go wrong in the relay, one class per reaction.

RelayError
├── BadRequest            what the job sent is no such message; 400
├── NotYours              the token is a job's, and speaks for another one; 403
├── Superseded            the same peer called again, and that call is the one that is answered; 409
├── PeerLost              one of the peers of an all-gather is gone; 409
├── SpoolFailed           the message could not be written to disk; 503, the job may try again
├── StreamRefused         the master no longer knows the token; 401 for all that still comes
├── MasterUnreachable     no answer, or one that says "later"; retried
└── MasterRefused         the master answered, and the answer is no
"""

from __future__ import annotations

import grpc


class RelayError(Exception):
    """Base of all errors that the relay raises on purpose."""


class BadRequest(RelayError):
    """The body or the path is not what this route takes; the text says where and why."""


class NotYours(RelayError):
    """A job speaks for an allocation, a task or a trial that is not its own."""


class Superseded(RelayError):
    """The peer of an all-gather called again, so nobody waits for this answer any more."""


class PeerLost(RelayError):
    """A peer of an all-gather left and did not come back; the text names it."""


class SpoolFailed(RelayError):
    """The disk did not take the message; nothing of it is kept."""


class StreamRefused(RelayError):
    """The master refused the token of this allocation, so nothing of it can be delivered."""


class MasterUnreachable(RelayError):
    """The master gave no answer, or one that asks for patience; the same call may work later."""


class MasterRefused(RelayError):
    """The master's answer is no, and asking again will not change it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code, self.message = code, message
