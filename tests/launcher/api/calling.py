"""A caller of a launcher that runs in the test's own process, on a machine without Slurm."""

from __future__ import annotations

import getpass
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from shipway_launcher.config import LauncherSettings, load_settings
from shipway_launcher.daemon import Serving, run_launcher


@dataclass
class Answer:
    """What came back."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str]

    @property
    def detail(self) -> str:
        """The detail of a problem document, after a look at the document."""
        assert self.kind == "application/problem+json", self.body
        document = json.loads(self.body)
        assert document["status"] == self.status
        assert set(document) == {"type", "title", "status", "detail"}
        assert "%" not in document["detail"]
        return str(document["detail"])


class Caller:
    """Calls the launcher with its token."""

    def __init__(self, serving: Serving, session: aiohttp.ClientSession) -> None:
        self.serving, self._session = serving, session

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send *body* (bytes as they are, anything else as JSON) and follow no redirect."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        data = None if body is None else io.BytesIO(content)
        sent = {"Authorization": f"Bearer {token or self.serving.token}", **(headers or {})}
        async with self._session.request(
            method,
            URL(f"{self.serving.url}{path}", encoded=True),
            data=data,
            headers=sent,
            allow_redirects=False,
        ) as answer:
            return Answer(answer.status, answer.content_type, await answer.read(), answer.headers)


def settings_of(folder: Path, **changes: Any) -> LauncherSettings:
    """Return settings of a launcher on a machine without Slurm."""
    empty = folder / "bin"
    empty.mkdir(exist_ok=True)
    return load_settings(
        flags={
            "port": 0,
            "user_name": getpass.getuser(),
            "job_storage_root": str(folder / "root"),
            "slurm": {"bin_dir": str(empty)},
            "limits": {"body_mib": 1},
            "relay": {"enabled": False},
            **changes,
        }
    )


@asynccontextmanager
async def serving(settings: LauncherSettings) -> AsyncIterator[Caller]:
    """Run a launcher for the time of the block."""
    async with run_launcher(settings) as found, aiohttp.ClientSession() as session:
        yield Caller(found, session)
