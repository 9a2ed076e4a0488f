"""Free-form objects that are nested deeply: what is taken can be read again, by everybody."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest
from google.protobuf.struct_pb2 import Struct

from shipway_master.gateway.depth import FREE_FORM_LEVELS
from shipway_master.structs import to_struct
from shipway_proto.determined.api.v1.template_pb2 import GetTemplatesRequest, PutTemplateRequest
from shipway_proto.determined.template.v1.template_pb2 import Template
from tests.master.running import MasterUnderTest


def nested(levels: int) -> dict[str, Any]:
    """Make an object of so many levels."""
    data: dict[str, Any] = {"a": 1}
    for _ in range(levels - 1):
        data = {"a": data}
    return data


async def put(master: MasterUnderTest, face: str, levels: int) -> str:
    """Store a template with an object of so many levels; tell how that ended."""
    if face == "rest":
        answer = await master.call("PUT", "/templates/deep", {"config": nested(levels)})
        return "taken" if answer.status == 200 else str(answer.error["reason"])
    config: Struct = to_struct(nested(levels))
    request = PutTemplateRequest(template=Template(name="deep", config=config))
    try:
        await master.stub.PutTemplate(request, metadata=master.grpc_auth())
    except grpc.aio.AioRpcError as error:
        return error.code().name.title().replace("_", "")
    return "taken"


@pytest.mark.parametrize("face", ["rest", "grpc"])
async def test_an_object_is_refused_that_could_not_be_read_again(
    master: MasterUnderTest, face: str
) -> None:
    assert await put(master, face, FREE_FORM_LEVELS) == "taken"
    assert await put(master, face, FREE_FORM_LEVELS + 1) == "InvalidArgument"

    over_rest = (await master.call("GET", "/templates")).json
    over_grpc = await master.stub.GetTemplates(GetTemplatesRequest(), metadata=master.grpc_auth())
    assert over_rest["templates"][0]["config"] == nested(FREE_FORM_LEVELS)
    assert over_grpc.templates[0].config == to_struct(nested(FREE_FORM_LEVELS))
