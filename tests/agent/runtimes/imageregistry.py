"""An image registry on loopback with one image: the lab's, in one layer, and its moods."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import io
import json
import os
import ssl
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.lab.images import image_tar

_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    """Return the name of *data* in a registry."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class ImageRegistry:
    """Serves one image, of a name of its own, to those who log in as it wants, if it wants that."""

    login: tuple[str, str] | None = None
    lost_layer: bool = False
    """The layer that the image names is not there."""
    holds_layer: bool = False
    """As long as that is so, who asks for the layer gets half of it."""
    layer_wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when somebody got half of it."""
    architecture: str = "amd64"
    """Another one than this is offered in a list of one."""
    repeats: bool = False
    """A refusal repeats the login that was tried, in plain and encoded."""
    complains: str = "authentication required"
    """What a refusal says."""
    random_bytes: int = 0
    """How much the layer holds that no compression makes smaller."""
    address: str = ""
    path: str = field(default_factory=lambda: f"lab/img-{uuid.uuid4().hex}")
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """What was asked for, in order."""

    def __post_init__(self) -> None:
        tar = _own_tar(self.random_bytes)
        layer = gzip.compress(tar, compresslevel=1)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
            }
        ).encode()
        self._layer = digest_of(layer)
        self.blobs = {self._layer: layer, digest_of(config): config}
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": digest_of(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(layer),
                        "digest": self._layer,
                    }
                ],
            }
        ).encode()

    @property
    def image(self) -> str:
        """The image's full name."""
        return f"{self.address}/{self.path}:1"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request of the registry protocol."""
        self.asked.append(request.path)
        if self.login is not None:
            pair = base64.b64encode(":".join(self.login).encode()).decode()
            tried = request.headers.get("Authorization", "")
            if tried != f"Basic {pair}":
                headers = {"WWW-Authenticate": 'Basic realm="lab"'}
                plain = base64.b64decode(tried.removeprefix("Basic ")).decode()
                words = f"{tried} is {plain}" if self.repeats else self.complains
                return _error(401, "UNAUTHORIZED", words, headers)
        if request.path == "/v2/":
            return web.json_response({})
        manifests, blobs = (f"/v2/{self.path}/{kind}/" for kind in ("manifests", "blobs"))
        listed = self._list()
        names = {f"{manifests}1", f"{manifests}{digest_of(listed)}"}
        if request.path in names and self.architecture != "amd64":
            headers = {"Docker-Content-Digest": digest_of(listed)}
            return web.Response(body=listed, content_type=_LIST, headers=headers)
        if request.path in {f"{manifests}1", f"{manifests}{self._digest}"}:
            headers = {"Docker-Content-Digest": self._digest}
            return web.Response(body=self._manifest, content_type=_MANIFEST, headers=headers)
        data = self.blobs.get(request.path.removeprefix(blobs))
        if data is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if self.lost_layer and digest_of(data) == self._layer:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.holds_layer and digest_of(data) == self._layer:
            return await self._send_half(request, data)
        return web.Response(body=data, content_type="application/octet-stream")

    async def _send_half(self, request: web.Request, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        self.layer_wanted.set()
        while self.holds_layer:  # noqa: ASYNC110 (the test changes it)
            await asyncio.sleep(0.02)
        return response

    def _list(self) -> bytes:
        entry = {"mediaType": _MANIFEST, "size": len(self._manifest), "digest": self._digest}
        platform = {"architecture": self.architecture, "os": "linux"}
        manifests = [{**entry, "platform": platform}]
        content = {"schemaVersion": 2, "mediaType": _LIST, "manifests": manifests}
        return json.dumps(content).encode()

    @property
    def _digest(self) -> str:
        return digest_of(self._manifest)


@asynccontextmanager
async def serving(
    registry: ImageRegistry, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ImageRegistry]:
    """Serve it on a port of loopback; any free one is right for Docker if there is no TLS."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner, "127.0.0.1", port, reuse_port=bool(port) or None, ssl_context=tls
        )
        await site.start()
        registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
        yield registry
    finally:
        await runner.cleanup()


def _own_tar(size_bytes: int) -> bytes:
    """Return the lab's image with a file of its own, so that no engine has the layer already."""
    buffer = io.BytesIO(image_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        entry = tarfile.TarInfo(f"made-{uuid.uuid4().hex}")
        entry.size = size_bytes
        archive.addfile(entry, io.BytesIO(os.urandom(size_bytes)))
    return buffer.getvalue()


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)
