"""Who may call what: each RPC by everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict
from grpc import StatusCode

from shipway_master.rpc import METHODS
from shipway_master.rpc.methods import SERVICE_NAME
from tests.master.access.callers import Caller
from tests.master.access.table import TABLE, Right
from tests.master.access.things import World, token_for, world_around
from tests.master.running import MasterUnderTest, Prepared, master_running

_LIMIT_S: Final = 30
_WAIT_S: Final = 0.1
_DEFECTS: Final = {StatusCode.INTERNAL, StatusCode.UNKNOWN}
_NOT_KNOWN: Final = frozenset(
    {Caller.NOBODY, Caller.UNKNOWN, Caller.LOGGED_OUT, Caller.REVOKED, Caller.ENDED}
)
_FEW: Final = (
    *(Caller.NOBODY, Caller.ENDED, Caller.SELF, Caller.STRANGER, Caller.STRANGERS_TASK),
    *(Caller.OWNER, Caller.ADMIN),
)
"""Those who tell whether all users may."""
_MOST: Final = (*_FEW, Caller.OWNERS_PROGRAM, Caller.SIBLING, Caller.OTHER_TRIAL)
"""One place turns away all others, whose tokens are not valid any more: a few RPCs tell that."""


def choose_callers(rpc: str, right: Right) -> list[Caller]:
    """Choose who asks; the run itself comes first: what it is asked about may end it."""
    if rpc in ("GetMe", "PostTaskLogs", "Login"):
        chosen = list(Caller)
    else:
        chosen = list(_FEW if right in (Right.USER, Right.ADMIN) else _MOST)
    return sorted(chosen, key=lambda caller: caller is not Caller.SELF)


async def ask(
    master: MasterUnderTest, rpc: str, data: bytes, token: str | None, *, may_wait: bool = True
) -> StatusCode:
    """Call an RPC; an answer that does not come is as good as one, for whoever waits may.

    Who is refused is told so, and must not wait: *may_wait* is off.
    """
    path = f"/{SERVICE_NAME}/{rpc}"
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    message: Any = data
    # A unary answer is a stream of one.
    call: Any = master.channel.unary_stream(path)(message, metadata=metadata)
    is_long = METHODS[rpc].is_stream or rpc in ("AllocationAllGather", "AllocationPreemptionSignal")
    waits = is_long and may_wait
    try:
        answer = await asyncio.wait_for(call.read(), _WAIT_S if waits else _LIMIT_S)
        return read_results(METHODS[rpc].response.FromString(answer or b""))
    except TimeoutError:
        assert waits, f"{rpc} hangs"
    except grpc.aio.AioRpcError as error:
        code: StatusCode = error.code()
        return code
    finally:
        call.cancel()
    return StatusCode.OK


def read_results(answer: Any) -> StatusCode:
    """Tell how a call ended that does something to several things, each with a result of its own."""
    errors = [result.error for result in getattr(answer, "results", ()) if hasattr(result, "error")]
    if any("permission" in error or "may not" in error for error in errors):
        return StatusCode.PERMISSION_DENIED
    return StatusCode.FAILED_PRECONDITION if any(errors) else StatusCode.OK


async def test_there_is_a_row_for_each_rpc(master: MasterUnderTest) -> None:
    no_message = b"\xff\xff"  # so that nothing is done
    answers = {rpc: await ask(master, rpc, no_message, master.admin_token) for rpc in METHODS}

    found = {rpc for rpc, code in answers.items() if code is not StatusCode.UNIMPLEMENTED}
    assert sorted(found ^ set(TABLE)) == [], "say in tests/master/access/table.py who may call them"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[World]:
    """Run a master full of people."""
    folder: Path = tmp_path_factory.mktemp("access") / "data"
    async with master_running(prepared, folder) as master, world_around(master) as made:
        yield made


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("rpc", sorted(TABLE))
async def test_who_may(world: World, rpc: str) -> None:
    row, made = TABLE[rpc], dict[str, Any]()
    request = METHODS[rpc].request()
    ParseDict(await world.fill_in(row.request, made), request)
    data, own = request.SerializeToString(), await world.make_token(made)
    in_order = choose_callers(rpc, row.right)
    permitted = [caller for caller in in_order if caller in row.right.callers]
    refused = [caller for caller in in_order if caller not in row.right.callers]

    async def ask_as(caller: Caller) -> StatusCode:
        may_wait = caller in permitted and row.answer is StatusCode.OK
        token = token_for(world, caller, own)
        return await ask(world.master, rpc, data, token, may_wait=may_wait)

    answers = dict(zip(refused, await asyncio.gather(*map(ask_as, refused)), strict=True))
    answers[permitted[0]] = await ask_as(permitted[0])
    others = permitted[1:]
    answers |= dict(zip(others, await asyncio.gather(*map(ask_as, others)), strict=True))

    if rpc == "Logout":
        await world.callers.log_in_again(world.authenticator)
    expected = {
        caller: StatusCode.UNAUTHENTICATED if caller in _NOT_KNOWN else StatusCode.PERMISSION_DENIED
        for caller in refused
    }
    assert {caller: answers[caller] for caller in refused} == expected
    assert answers[permitted[0]] is row.answer
    shut_out = {StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, *_DEFECTS}
    assert {caller: answers[caller] for caller in permitted if answers[caller] in shut_out} == {}


@pytest.mark.asyncio(loop_scope="module")
async def test_a_run_brings_its_last_lines_after_its_end(world: World) -> None:
    task_id = await world.make_task("command")
    own = await world.make_token({"$command": task_id})
    request = METHODS["PostTaskLogs"].request()
    ParseDict({"logs": [{"taskId": task_id, "log": "the end"}]}, request)

    killed = await world.master.call("POST", f"/commands/{task_id}/kill", {})
    assert killed.status == 200

    late = {
        rpc: await ask(world.master, rpc, data, own)
        for rpc, data in (("PostTaskLogs", request.SerializeToString()), ("GetMe", b""))
    }
    assert late == {"PostTaskLogs": StatusCode.OK, "GetMe": StatusCode.UNAUTHENTICATED}


def test_every_right_is_somebodys() -> None:
    assert {row.right for row in TABLE.values()} <= set(Right)
    assert all(Caller.ADMIN in right.callers for right in Right)
