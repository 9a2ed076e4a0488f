"""How the subcommands for people reach the running launcher."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from shipway_launcher.client import CallFailed, LauncherClient
from shipway_launcher.config import LauncherSettings
from shipway_launcher.tokens import read_token


@asynccontextmanager
async def connect(settings: LauncherSettings) -> AsyncGenerator[LauncherClient]:
    """Speak to the launcher of these settings, with its own token.

    Raises:
        CallFailed: The token cannot be read.
    """
    try:
        token = read_token(settings.token_file)
    except FileNotFoundError as error:
        raise CallFailed(
            f"there is no token {settings.token_file}: has the launcher been started, and is"
            " --config missing?"
        ) from error
    except OSError as error:
        raise CallFailed(f"cannot read the token: {error}") from error
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    scheme = "https" if settings.tls.cert_file else "http"
    async with LauncherClient(
        f"{scheme}://{host}:{settings.port}", token, cert_file=settings.tls.cert_file
    ) as client:
        yield client


async def find_dispatch(client: LauncherClient, dispatch: str) -> dict[str, Any]:
    """Return the DispatchInfo of a dispatch of any owner.

    Raises:
        CallFailed: There is none.
    """
    for info in await client.list_all(ended=True):
        if info["dispatchId"] == dispatch:
            return info
    raise CallFailed(f"there is no dispatch {dispatch}; `shipway-launcher ps --all` lists them")
