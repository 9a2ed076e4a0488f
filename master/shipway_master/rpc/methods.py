"""The methods of the API, read from its descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2  # pyright: ignore[reportMissingTypeStubs]
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from shipway_proto.determined.api.v1 import api_pb2

SERVICE_NAME: Final = "determined.api.v1.Determined"

_HTTP: Any = annotations_pb2.http
_VERBS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One RPC: its messages, and how it is reached over HTTP."""

    name: str
    request: type[Message]
    response: type[Message]
    is_stream: bool
    verb: str
    """GET, POST, PUT, PATCH or DELETE."""
    path: str
    """Template, as `/api/v1/agents/{agent_id}`."""
    body: str
    """The field that the body is, `*` for the whole request, empty for no body."""


def _method(descriptor: MethodDescriptor) -> Method:
    rule: Any = descriptor.GetOptions().Extensions[_HTTP]
    verb: str = rule.WhichOneof("pattern")
    assert verb in _VERBS
    return Method(
        name=descriptor.name,
        request=GetMessageClass(descriptor.input_type),
        response=GetMessageClass(descriptor.output_type),
        is_stream=descriptor.server_streaming,
        verb=verb.upper(),
        path=getattr(rule, verb),
        body=rule.body,
    )


METHODS: Final[dict[str, Method]] = {
    descriptor.name: _method(descriptor)
    for descriptor in api_pb2.DESCRIPTOR.services_by_name["Determined"].methods
}
"""All methods by name."""
