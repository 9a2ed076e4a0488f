"""What a call may end with, and the one table that turns it into gRPC and HTTP.

MasterError
├── InvalidArgument, FailedPrecondition                  the request is wrong: do not repeat it
├── Unauthenticated, PermissionDenied                    who asks may not
├── NotFound, AlreadyExists, Aborted                     the thing asked for is not so
├── ResourceExhausted, Unavailable, DeadlineExceeded     later, or smaller, it may work
├── Unimplemented                                        this master has no such call
└── Internal                                             a defect of ours; the log has the traceback

CannotStart                                              what the starter is told; never a caller
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from grpc import StatusCode


class MasterError(Exception):
    """Base of all errors that a caller is told; the text is what he reads."""

    code: ClassVar[StatusCode] = StatusCode.INTERNAL

    @property
    def text(self) -> str:
        """The message of this error, as it goes over the wire, whatever of a request it quotes."""
        return str(self).encode(errors="replace").decode()


class InvalidArgument(MasterError):
    """The request cannot be understood, or asks for what can never be."""

    code = StatusCode.INVALID_ARGUMENT


class FailedPrecondition(MasterError):
    """The request is sound, but the thing it is about is not in a state for it."""

    code = StatusCode.FAILED_PRECONDITION


class Unauthenticated(MasterError):
    """Nobody known is asking."""

    code = StatusCode.UNAUTHENTICATED


class PermissionDenied(MasterError):
    """Somebody known is asking, who may not."""

    code = StatusCode.PERMISSION_DENIED


class NotFound(MasterError):
    """There is no such thing; clients look for this very text."""

    code = StatusCode.NOT_FOUND

    def __init__(self, kind: str, ident: object) -> None:
        super().__init__(f"{kind} '{ident}' not found")
        self.kind, self.ident = kind, ident


class AlreadyExists(MasterError):
    """The name is taken."""

    code = StatusCode.ALREADY_EXISTS


class Aborted(MasterError):
    """Something else got there first."""

    code = StatusCode.ABORTED


class ResourceExhausted(MasterError):
    """Too big, or too many."""

    code = StatusCode.RESOURCE_EXHAUSTED


class Unavailable(MasterError):
    """What the call needs cannot be reached just now; clients repeat safe calls by themselves."""

    code = StatusCode.UNAVAILABLE


class DeadlineExceeded(MasterError):
    """It took longer than allowed."""

    code = StatusCode.DEADLINE_EXCEEDED


class Unimplemented(MasterError):
    """The API has this call, this master does not."""

    code = StatusCode.UNIMPLEMENTED


class Internal(MasterError):
    """Something broke that should not; the details are in the master's log."""

    code = StatusCode.INTERNAL


class CannotStart(Exception):
    """The master cannot run as things are; the text says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a status code looks over HTTP."""

    number: int
    reason: str
    http_status: int
    http_phrase: str


ANSWERS: Final[dict[StatusCode, Answer]] = {
    StatusCode.CANCELLED: Answer(1, "Canceled", 408, "Request Timeout"),
    StatusCode.UNKNOWN: Answer(2, "Unknown", 500, "Internal Server Error"),
    StatusCode.INVALID_ARGUMENT: Answer(3, "InvalidArgument", 400, "Bad Request"),
    StatusCode.DEADLINE_EXCEEDED: Answer(4, "DeadlineExceeded", 504, "Gateway Timeout"),
    StatusCode.NOT_FOUND: Answer(5, "NotFound", 404, "Not Found"),
    StatusCode.ALREADY_EXISTS: Answer(6, "AlreadyExists", 409, "Conflict"),
    StatusCode.PERMISSION_DENIED: Answer(7, "PermissionDenied", 403, "Forbidden"),
    StatusCode.RESOURCE_EXHAUSTED: Answer(8, "ResourceExhausted", 429, "Too Many Requests"),
    StatusCode.FAILED_PRECONDITION: Answer(9, "FailedPrecondition", 400, "Bad Request"),
    StatusCode.ABORTED: Answer(10, "Aborted", 409, "Conflict"),
    StatusCode.OUT_OF_RANGE: Answer(11, "OutOfRange", 400, "Bad Request"),
    StatusCode.UNIMPLEMENTED: Answer(12, "Unimplemented", 501, "Not Implemented"),
    StatusCode.INTERNAL: Answer(13, "Internal", 500, "Internal Server Error"),
    StatusCode.UNAVAILABLE: Answer(14, "Unavailable", 503, "Service Unavailable"),
    StatusCode.DATA_LOSS: Answer(15, "DataLoss", 500, "Internal Server Error"),
    StatusCode.UNAUTHENTICATED: Answer(16, "Unauthenticated", 401, "Unauthorized"),
}


def error_body(error: MasterError) -> dict[str, object]:
    """Build the JSON body of a failed unary call."""
    answer = ANSWERS[error.code]
    return {"error": {"code": answer.number, "reason": answer.reason, "error": error.text}}


def stream_error_body(error: MasterError) -> dict[str, object]:
    """Build the JSON object that ends a failed stream."""
    answer = ANSWERS[error.code]
    return {
        "error": {
            "grpcCode": answer.number,
            "httpCode": answer.http_status,
            "message": error.text,
            "httpStatus": answer.http_phrase,
            "details": [],
        }
    }
