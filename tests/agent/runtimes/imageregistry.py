"""An image registry on loopback with one image: the lab's, in one layer, and its moods."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.lab.images import image_tar

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    """Return the name of *data* in a registry."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class ImageRegistry:
    """Serves `<address>/lab/img:1` to those who log in as it wants, if it wants that."""

    login: tuple[str, str] | None = None
    lost_layer: bool = False
    """The layer that the image names is not there."""
    address: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """What was asked for, in order."""

    def __post_init__(self) -> None:
        tar = _own_tar()
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
        return f"{self.address}/lab/img:1"

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request of the registry protocol."""
        self.asked.append(request.path)
        if self.login is not None:
            pair = base64.b64encode(":".join(self.login).encode()).decode()
            if request.headers.get("Authorization") != f"Basic {pair}":
                headers = {"WWW-Authenticate": 'Basic realm="lab"'}
                return _error(401, "UNAUTHORIZED", "authentication required", headers)
        if request.path == "/v2/":
            return web.json_response({})
        if request.path in {"/v2/lab/img/manifests/1", f"/v2/lab/img/manifests/{self._digest}"}:
            headers = {"Docker-Content-Digest": self._digest}
            return web.Response(body=self._manifest, content_type=_MANIFEST, headers=headers)
        data = self.blobs.get(request.path.removeprefix("/v2/lab/img/blobs/"))
        if data is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if self.lost_layer and digest_of(data) == self._layer:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        return web.Response(body=data, content_type="application/octet-stream")

    @property
    def _digest(self) -> str:
        return digest_of(self._manifest)


@asynccontextmanager
async def serving(registry: ImageRegistry) -> AsyncIterator[ImageRegistry]:
    """Serve it on a free port of loopback, which engines reach without TLS."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        registry.address = f"127.0.0.1:{port}"
        yield registry
    finally:
        await runner.cleanup()


def _own_tar() -> bytes:
    """Return the lab's image with a file of its own, so that no engine has the layer already."""
    buffer = io.BytesIO(image_tar())
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        entry = tarfile.TarInfo(f"made-{uuid.uuid4().hex}")
        archive.addfile(entry)
    return buffer.getvalue()


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)
