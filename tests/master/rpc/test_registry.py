"""How calls run, end and are cut off, on both faces, with services that do it on purpose."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from shipway_master.auth import Authenticator
from shipway_master.errors import ANSWERS, MasterError, NotFound
from shipway_master.rpc import METHODS, Call, Registry, long_poll
from shipway_master.rpc.registry import ServiceMistake
from shipway_master.server import serving
from shipway_master.store.database import opened
from shipway_proto.determined.api.v1.agent_pb2 import (
    GetAgentRequest,
    GetAgentResponse,
    GetAgentsRequest,
    GetAgentsResponse,
)
from shipway_proto.determined.api.v1.api_pb2_grpc import DeterminedStub
from shipway_proto.determined.api.v1.master_pb2 import MasterLogsRequest, MasterLogsResponse
from shipway_proto.determined.api.v1.trial_pb2 import (
    AllocationPreemptionSignalRequest,
    AllocationPreemptionSignalResponse,
)
from tests.master.running import Prepared, make_config, until


class Playground:
    """RPCs that wait, fail and say how they ended."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.go_on = asyncio.Event()
        self.error: Exception = NotFound("agent", "x")

    async def GetAgents(self, request: GetAgentsRequest, call: Call) -> GetAgentsResponse:  # noqa: N802
        """Wait, whatever the caller does."""
        try:
            self.events.append("begun")
            await self.go_on.wait()
            self.events.append("done")
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        return GetAgentsResponse()

    @long_poll
    async def AllocationPreemptionSignal(  # noqa: N802
        self, request: AllocationPreemptionSignalRequest, call: Call
    ) -> AllocationPreemptionSignalResponse:
        """Wait while the caller does."""
        await self.GetAgents(GetAgentsRequest(), call)
        return AllocationPreemptionSignalResponse(preempt=True)

    async def GetAgent(self, request: GetAgentRequest, call: Call) -> GetAgentResponse:  # noqa: N802
        """Fail."""
        raise self.error

    async def MasterLogs(  # noqa: N802
        self, request: MasterLogsRequest, call: Call
    ) -> AsyncIterator[MasterLogsResponse]:
        """Give one item and wait."""
        return self._items()

    async def _items(self) -> AsyncGenerator[MasterLogsResponse]:
        try:
            self.events.append("begun")
            yield MasterLogsResponse()
            await self.go_on.wait()
            raise self.error
        finally:
            self.events.append("ended")


@dataclass
class Ground:
    """A server with the playground behind it."""

    service: Playground
    url: str
    session: aiohttp.ClientSession
    stub: Any
    headers: dict[str, str]
    metadata: tuple[tuple[str, str], ...]
    stop: AsyncExitStack


@pytest.fixture
async def ground(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[Ground]:
    """Serve a playground."""
    data = tmp_path / "data"
    await asyncio.to_thread(shutil.copytree, prepared.folder, data)
    service = Playground()
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stop:
        database = await stop.enter_async_context(opened(f"sqlite:///{data / 'master.db'}"))
        authenticator = Authenticator(database)
        registry = await stop.enter_async_context(Registry([service], authenticator))
        config = make_config(data)
        port = await stop.enter_async_context(serving(config, registry, authenticator, []))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Ground(
                service=service,
                url=f"http://127.0.0.1:{port}/api/v1",
                session=session,
                stub=DeterminedStub(channel),
                headers={"Authorization": f"Bearer {prepared.admin_token}"},
                metadata=(("authorization", f"Bearer {prepared.admin_token}"),),
                stop=stop,
            )


def start(ground: Ground, face: str, path: str) -> asyncio.Future[Any]:
    """Begin a call over one of the faces."""
    if face == "rest":

        async def get() -> Any:
            url = f"{ground.url}{path}"
            async with ground.session.get(url, headers=ground.headers) as response:
                return response.status, await response.json()

        return asyncio.ensure_future(get())
    if "signals" in path:
        request = AllocationPreemptionSignalRequest(allocation_id="a")
        poll = ground.stub.AllocationPreemptionSignal(request, metadata=ground.metadata)
        return asyncio.ensure_future(_result(poll))
    return asyncio.ensure_future(
        _result(ground.stub.GetAgents(GetAgentsRequest(), metadata=ground.metadata))
    )


async def _result(call: Any) -> Any:
    return await call


async def hang_up(call: asyncio.Future[Any]) -> None:
    """Give a call up."""
    call.cancel()
    await asyncio.wait([call])


FACES = pytest.mark.parametrize("face", ["rest", "grpc"])
POLL = "/allocations/a/signals/preemption"


@FACES
async def test_a_call_runs_to_its_end_though_the_caller_hangs_up(ground: Ground, face: str) -> None:
    call = start(ground, face, "/agents")
    await until(lambda: ground.service.events == ["begun"])
    await hang_up(call)
    ground.service.go_on.set()

    await until(lambda: ground.service.events == ["begun", "done"])


@FACES
async def test_a_long_poll_ends_with_its_caller(ground: Ground, face: str) -> None:
    call = start(ground, face, POLL)
    await until(lambda: ground.service.events == ["begun"])
    await hang_up(call)

    await until(lambda: ground.service.events == ["begun", "cancelled"])


@FACES
async def test_a_long_poll_is_answered_when_it_happens(ground: Ground, face: str) -> None:
    call = start(ground, face, POLL)
    await until(lambda: ground.service.events == ["begun"])
    ground.service.go_on.set()

    answer = await asyncio.wait_for(call, 60)
    assert answer == (200, {"preempt": True}) if face == "rest" else answer.preempt


@FACES
async def test_a_stream_ends_with_its_caller(ground: Ground, face: str) -> None:
    if face == "rest":
        stream = await ground.session.get(f"{ground.url}/master/logs", headers=ground.headers)
        assert (await stream.content.readline()).startswith(b'{"result":')
        stream.close()
    else:
        grpc_stream = ground.stub.MasterLogs(MasterLogsRequest(), metadata=ground.metadata)
        await grpc_stream.read()
        grpc_stream.cancel()

    await until(lambda: ground.service.events == ["begun", "ended"])


ERRORS = [NotFound("agent", "x")] + [
    kind("it is so") for kind in MasterError.__subclasses__() if kind is not NotFound
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_every_error_has_its_code_on_both_faces(ground: Ground, error: MasterError) -> None:
    ground.service.error = error
    answer = ANSWERS[error.code]
    body = {"error": {"code": answer.number, "reason": answer.reason, "error": error.text}}

    async with ground.session.get(f"{ground.url}/agents/x", headers=ground.headers) as response:
        assert (response.status, await response.json()) == (answer.http_status, body)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ground.stub.GetAgent(GetAgentRequest(agent_id="x"), metadata=ground.metadata)
    assert (caught.value.code(), caught.value.details()) == (error.code, error.text)


async def test_a_defect_is_logged_once_and_not_told(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    ground.service.error = ValueError("secret detail")
    with caplog.at_level(logging.ERROR):
        async with ground.session.get(f"{ground.url}/agents/x", headers=ground.headers) as response:
            answer = await response.text()

    assert response.status == 500
    assert '"code":13' in answer
    assert "secret detail" not in answer
    assert caplog.text.count("ValueError: secret detail") == 1


async def test_a_defect_in_a_stream_is_told_in_its_last_line(ground: Ground) -> None:
    ground.service.error = ValueError("secret detail")
    async with ground.session.get(f"{ground.url}/master/logs", headers=ground.headers) as stream:
        await stream.content.readline()
        ground.service.go_on.set()
        rest = await stream.content.read()

    assert b'"grpcCode":13' in rest
    assert b"secret" not in rest


async def test_a_stop_lets_calls_end_and_cuts_waiting_off(ground: Ground) -> None:
    call = start(ground, "rest", "/agents")
    await until(lambda: ground.service.events == ["begun"])
    poll = start(ground, "rest", POLL)
    await until(lambda: ground.service.events == ["begun", "begun"])
    stream = await ground.session.get(f"{ground.url}/master/logs", headers=ground.headers)
    await stream.content.readline()

    stopping = asyncio.ensure_future(ground.stop.aclose())
    with pytest.raises(aiohttp.ClientConnectionError):
        await asyncio.wait_for(poll, 60)
    last_line = await asyncio.wait_for(stream.content.read(), 60)
    ground.service.go_on.set()
    status, _ = await asyncio.wait_for(call, 60)
    await asyncio.wait_for(stopping, 60)

    assert status == 200
    assert b"the master is stopping" in last_line


def test_services_that_do_not_fit_the_api_are_refused() -> None:
    class Unknown:
        async def GetNonsense(self) -> None:  # noqa: N802
            """Be no RPC."""

    class Again(Playground):
        """Has everything that the other one has."""

    authenticator: Any = None  # not asked while the table is made
    with pytest.raises(ServiceMistake, match=r"Unknown\.GetNonsense"):
        Registry([Unknown()], authenticator)
    with pytest.raises(ServiceMistake, match="another service has it too"):
        Registry([Playground(), Again()], authenticator)
    assert "GetAgents" in Registry([Playground()], authenticator).implemented


async def test_every_rpc_of_the_api_answers_over_grpc(ground: Ground) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ground.stub.GetModels(METHODS["GetModels"].request(), metadata=ground.metadata)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "GetModels is not implemented by this master"
