"""From what a configuration says of a storage to where the master reads it."""

from __future__ import annotations

import posixpath
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shipway_master.checkpoints.download.folder import FolderSource
from shipway_master.checkpoints.download.s3 import Bucket, opened_bucket
from shipway_master.checkpoints.download.signing import Credentials
from shipway_master.checkpoints.download.source import Source, SourceError


@asynccontextmanager
async def opened_source(
    storage: Mapping[str, Any], uuid: str, *, pool: Executor | None = None
) -> AsyncGenerator[Source]:
    """Open the checkpoint *uuid* in a storage; folders are read in threads of *pool*.

    Raises:
        SourceError: The master cannot read from such a storage.
    """
    kind = storage.get("type")
    if kind == "shared_fs":
        yield FolderSource(_find_shared(storage), uuid, pool=pool)
    elif kind == "directory":
        # The user mounts it into his tasks; where the path is the same here, it can be read.
        base = _require_absolute(storage.get("container_path"))
        yield FolderSource(base, uuid, pool=pool)
    elif kind == "s3":
        prefix = str(storage.get("prefix") or "").strip("/")
        folder = f"{posixpath.normpath(prefix)}/{uuid}" if prefix else uuid
        async with opened_bucket(_find_bucket(storage), folder) as source:
            yield source
    else:
        raise SourceError(
            f"the master does not read from storage of the type {kind!r}: "
            "fetch the checkpoint from there (--mode direct)"
        )


def _find_shared(storage: Mapping[str, Any]) -> Path:
    host_path = posixpath.normpath(str(_require_absolute(storage.get("host_path"))))
    below = storage.get("storage_path") or ""
    path = posixpath.normpath(posixpath.join(host_path, str(below)))
    if path != host_path and not path.startswith(host_path.rstrip("/") + "/"):
        raise SourceError("storage_path lies outside of host_path")
    return Path(path)


def _find_bucket(storage: Mapping[str, Any]) -> Bucket:
    access_key, secret_key = storage.get("access_key"), storage.get("secret_key")
    if not access_key or not secret_key:
        raise SourceError(
            "checkpoint_storage has no access_key and secret_key, and the master has none of its "
            "own: fetch the checkpoint from there (--mode direct)"
        )
    return Bucket(
        name=str(storage.get("bucket") or ""),
        endpoint_url=_require_url(storage.get("endpoint_url")),
        credentials=Credentials(access_key=str(access_key), secret_key=str(secret_key)),
    )


def _require_url(value: object) -> str | None:
    text = str(value or "")
    if text and not text.startswith(("http://", "https://")):
        raise SourceError(f"endpoint_url {text!r} is no URL of a web server")
    return text or None


def _require_absolute(value: object) -> Path:
    text = str(value or "")
    if not text.startswith("/") or "\0" in text:
        raise SourceError(f"checkpoint_storage names no absolute path, but {text!r}")
    return Path(text)
