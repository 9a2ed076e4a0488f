"""A checkpoint in a bucket of S3, or of a server that speaks as it does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import aiohttp
from yarl import URL

from shipway_master.checkpoints.download.signing import (
    Credentials,
    encode_path,
    encode_query,
    sign_get,
)
from shipway_master.checkpoints.download.source import (
    CHUNK_BYTES,
    Entry,
    SourceError,
    is_inside,
)

_LIMITS: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_LISTING_BYTES: Final = 16 << 20
_ERROR_BYTES: Final = 16 << 10
_REGION_HEADER: Final = "x-amz-bucket-region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where objects are, and who asks for them."""

    name: str
    endpoint_url: str | None = None
    """None: Amazon's own."""
    credentials: Credentials
    region: str = "us-east-1"
    """Servers other than Amazon's take this one."""


@asynccontextmanager
async def opened_bucket(bucket: Bucket, folder: str) -> AsyncGenerator[S3Source]:
    """Open what lies below *folder* in a bucket."""
    async with aiohttp.ClientSession(timeout=_LIMITS, auto_decompress=False) as session:
        yield S3Source(session, bucket, f"{folder.strip('/')}/")


class S3Source:
    """The objects whose keys begin with *prefix*."""

    def __init__(self, session: aiohttp.ClientSession, bucket: Bucket, prefix: str) -> None:
        self._session, self._bucket, self._prefix = session, bucket, prefix

    async def entries(self) -> AsyncGenerator[Entry]:
        """List what there is, by key; an object whose key ends with a slash stands for a folder."""
        token: str | None = None
        is_empty = True
        while True:
            listing = await self._list(token)
            for entry in _read_entries(listing, self._prefix):
                is_empty = False
                yield entry
            token = listing.findtext("NextContinuationToken")
            if not token:
                break
        if is_empty:
            raise SourceError(f"the bucket {self._bucket.name} has nothing below {self._prefix}")

    async def read(self, entry: Entry) -> AsyncGenerator[bytes]:
        """Read an object."""
        async with self._asked(f"{self._prefix}{entry.path}", {}) as response:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def _list(self, token: str | None) -> ElementTree.Element:
        query = {"list-type": "2", "prefix": self._prefix, "encoding-type": "url"}
        if token is not None:
            query["continuation-token"] = token
        async with self._asked("", query) as response:
            text = await response.content.read(_LISTING_BYTES)
            while piece := await response.content.read(_LISTING_BYTES):
                text += piece
                if len(text) > _LISTING_BYTES:
                    raise SourceError(f"{response.url.origin()} sent a listing without end")
        return _parse(text)

    @asynccontextmanager
    async def _asked(
        self, key: str, query: Mapping[str, str]
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        try:
            async with self._ask(key, query) as response:
                region = response.headers.get(_REGION_HEADER)
                if response.status == 200 or region in (None, self._bucket.region):
                    await _require_success(response)
                    yield response
                    return
            self._bucket = replace(self._bucket, region=region or self._bucket.region)
            async with self._ask(key, query) as response:
                await _require_success(response)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            where = self._bucket.endpoint_url or "S3"
            reason = str(error) or type(error).__name__
            raise SourceError(f"the master cannot read from {where}: {reason}") from error

    def _ask(self, key: str, query: Mapping[str, str]) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
        bucket = self._bucket
        url = URL(bucket.endpoint_url or f"https://s3.{bucket.region}.amazonaws.com")
        path = encode_path(f"{url.path.rstrip('/')}/{bucket.name}/{key}")
        text = encode_query(query)
        host = url.raw_authority
        headers = sign_get(
            host=host,
            path=path,
            query=text,
            region=bucket.region,
            credentials=bucket.credentials,
            now=datetime.now(UTC),
        )
        return self._session.get(
            URL(f"{url.scheme}://{host}{path}{'?' if text else ''}{text}", encoded=True),
            headers={**headers, "Accept-Encoding": "identity"},
            allow_redirects=False,  # it may lead anywhere
        )


async def _require_success(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    text = await response.content.read(_ERROR_BYTES)
    try:
        code = _parse(text).findtext("Code")
    except SourceError:
        code = None
    raise SourceError(
        f"{response.url.origin()} answered {response.status} {code or response.reason or ''}"
    )


def _parse(text: bytes) -> ElementTree.Element:
    """Read XML without declarations of its own, and forget its namespace."""
    if b"<!" in text:
        raise SourceError("the answer of the storage has declarations in it")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 (no declarations: nothing to expand)
    except ElementTree.ParseError as error:
        start = text[:200].decode(errors="replace")
        raise SourceError(f"the answer of the storage is no XML: {start!r}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _read_entries(listing: ElementTree.Element, prefix: str) -> list[Entry]:
    is_encoded = listing.findtext("EncodingType") == "url"
    entries: list[Entry] = []
    for one in listing.iterfind("Contents"):
        key = one.findtext("Key") or ""
        path = (unquote_plus(key) if is_encoded else key).removeprefix(prefix)
        if not path:
            continue  # it stands for the folder as a whole
        if not is_inside(path):
            raise SourceError(f"the bucket has a key that is no path: {path[:200]!r}")
        try:
            size = int(one.findtext("Size") or "")
            changed = datetime.fromisoformat(one.findtext("LastModified") or "")
        except ValueError as error:
            raise SourceError(f"the listing of the bucket is unreadable: {error}") from error
        mtime = int(changed.timestamp())
        entries.append(Entry(path=path, size=0 if path.endswith("/") else size, mtime=mtime))
    return entries
