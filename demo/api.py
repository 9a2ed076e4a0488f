"""The few calls of the public API that the demo makes."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

# The client salts a password before it leaves the machine; the salt is part of the public API.
_SALT = "GubPEmmotfiK9TMD6Zdw"


class ApiError(Exception):
    """The master answered, and the answer is no."""


class Api:
    """One logged-in user of a master."""

    def __init__(self, master_url: str) -> None:
        self._master_url = master_url
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=10))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def login(self, user: str, password: str) -> None:
        hashed = hashlib.sha512((_SALT + password).encode()).hexdigest() if password else ""
        answer = await self.call(
            "POST", "auth/login", {"username": user, "password": hashed, "isHashed": True}
        )
        self._session.headers["Authorization"] = f"Bearer {answer['token']}"

    async def call(self, verb: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Make one unary call below `/api/v1/`.

        Raises:
            ApiError: The master refused, with its own words.
            aiohttp.ClientError: There was no answer.
        """
        async with self._session.request(
            verb, f"{self._master_url}/api/v1/{path}", json=body
        ) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise ApiError(f"{verb} {path}: {answer.status} {text[:500]}")
            return json.loads(text)

    async def stream(self, path: str) -> AsyncIterator[Any]:
        """Yield each `result` of a streaming call until the master ends it."""
        async with self._session.get(
            f"{self._master_url}/api/v1/{path}", read_bufsize=2**22
        ) as answer:
            if answer.status != 200:
                raise ApiError(f"GET {path}: {answer.status} {(await answer.text())[:500]}")
            async for line in answer.content:
                message = json.loads(line)
                if "error" in message:
                    raise ApiError(f"GET {path}: {message['error'].get('message')}")
                yield message["result"]

    async def create_trial(self) -> int:
        """Make a trial that reports for itself, of an experiment of its own; return its id."""
        config = {
            "name": "demo",
            "searcher": {"name": "single", "metric": "none", "max_length": {"batches": 1}},
        }
        body = {"config": json.dumps(config), "unmanaged": True}
        experiment = (await self.call("POST", "experiments", body))["experiment"]
        body = {"experimentId": experiment["id"], "unmanaged": True}
        return int((await self.call("POST", "trials", body))["trial"]["id"])

    async def create_task(self, config: Mapping[str, Any], context: Path) -> str:
        """Start a generic task whose working folder holds the files of *context*."""
        files = await asyncio.to_thread(_load_files, context)
        # JSON is YAML: the config travels as text, as `det task create` sends it.
        body = {"config": json.dumps(config), "contextDirectory": files}
        return str((await self.call("POST", "generic-tasks", body))["taskId"])


def _load_files(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            "path": file.name,
            "type": ord("0"),  # the tar type of a plain file
            "content": base64.b64encode(file.read_bytes()).decode(),
            "mtime": int(file.stat().st_mtime),
            "mode": 0o644,
        }
        for file in sorted(folder.iterdir())
        if file.is_file()
    ]
