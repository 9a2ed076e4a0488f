"""A real master in this process, and the ways to talk to it."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from aiohttp import web_app

from shipway_master.app import running
from shipway_master.auth import Authenticator
from shipway_master.config import MasterConfig
from shipway_master.first_start import furnish
from shipway_master.store.database import opened
from shipway_proto.determined.api.v1.api_pb2_grpc import DeterminedStub

PASSWORD = "a-Password-4-tests"
ADMIN_ID, USER_ID = 1, 2


@dataclass(frozen=True)
class Prepared:
    """The data folder of a master that was started once; copying it is quicker than a first start."""

    folder: Path
    admin_token: str
    user_token: str


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as data."""
        return json.loads(self.body)

    @property
    def error(self) -> Mapping[str, Any]:
        """What a failed call says."""
        error: Mapping[str, Any] = self.json["error"]
        return error


@dataclass
class MasterUnderTest:
    """A running master with a client for each face."""

    port: int
    data: Path
    database_url: str
    """Of its database, for those who want to look into it beside the master."""
    admin_token: str
    user_token: str
    session: aiohttp.ClientSession
    channel: grpc.aio.Channel
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.stub = DeterminedStub(self.channel)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def auth(self, token: str | None = None) -> dict[str, str]:
        """Headers of a user's request; the administrator's unless *token* is given."""
        return {"Authorization": f"Bearer {token or self.admin_token}"}

    def grpc_auth(self, token: str | None = None) -> tuple[tuple[str, str], ...]:
        """The same as gRPC metadata."""
        return (("authorization", f"Bearer {token or self.admin_token}"),)

    async def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        data: bytes | None = None,
        token: str | None = "admin",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call *path* below `/api/v1`: with *body* as JSON or *data* as it is.

        Args:
            token: `admin`, `user`, any token, or None for no token at all.
        """
        known = {"admin": self.admin_token, "user": self.user_token}
        sent = {} if token is None else self.auth(known.get(token, token))
        if body is not None:
            data = json.dumps(body).encode()
        async with self.session.request(
            verb,
            f"{self.url}/api/v1{path}",
            data=None if data is None else io.BytesIO(data),
            headers={**sent, **(headers or {})},
            skip_auto_headers=("Content-Type",),
        ) as response:
            return Answer(response.status, response.headers, await response.read())


async def prepare(folder: Path, **changes: Any) -> Prepared:
    """Start a master for the first time, as far as its database goes, and log its users in."""
    config = make_config(folder, **changes)
    async with opened(config.db.resolve_url(folder)) as database:
        await furnish(database, config.security, folder)
        authenticator = Authenticator(database)
        admin_token, _ = await authenticator.start_session(ADMIN_ID)
        user_token, _ = await authenticator.start_session(USER_ID)
    return Prepared(folder, admin_token, user_token)


def make_config(folder: Path, **changes: Any) -> MasterConfig:
    """Build settings of a master on a free port."""
    settings = {"data": folder, "port": 0, "security": {"initial_user_password": PASSWORD}}
    return MasterConfig.model_validate({**settings, **changes})


async def until(is_so: Callable[[], bool], *, limit_s: float = 60) -> None:
    """Wait until *is_so*, looking again and again.

    Raises:
        TimeoutError: It was not, in *limit_s* seconds.
    """
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 (nobody here could set an event)
            await asyncio.sleep(0.01)


def _forget_former() -> None:
    """Have the masters that have ended forgotten: aiohttp remembers the last thousand of them."""
    remembered: Any = getattr(web_app, "_cached_build_middleware", None)
    if remembered is not None:
        remembered.cache_clear()


@asynccontextmanager
async def master_running(
    prepared: Prepared, folder: Path, **changes: Any
) -> AsyncGenerator[MasterUnderTest]:
    """Run a master on a copy of *prepared* in *folder*."""
    shutil.copytree(prepared.folder, folder)
    config = make_config(folder, **changes)
    _forget_former()
    async with (
        running(config) as master,
        aiohttp.ClientSession(auto_decompress=True) as session,
        grpc.aio.insecure_channel(f"127.0.0.1:{master.port}") as channel,
    ):
        yield MasterUnderTest(
            port=master.port,
            data=folder,
            database_url=config.db.resolve_url(folder).render_as_string(hide_password=False),
            admin_token=prepared.admin_token,
            user_token=prepared.user_token,
            session=session,
            channel=channel,
        )
