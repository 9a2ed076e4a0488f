"""A caller of a launcher that runs, with the API's description in hand: it looks at every answer."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.launcher.api.calling import Answer
from tests.launcher.api.description import faults, load_description, operations, resolve

_EVERYWHERE = {401, 408, 413, 429}
"""What can come of any request, whatever it asks for."""


class Rest:
    """Sends requests as they are given, and follows nothing."""

    def __init__(self, url: str, token: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.url, self.token = url, token
        self._address, self._tls = (parts.hostname, parts.port), tls
        self._described = load_description()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send *body* (bytes as they are, anything else as JSON); compare with the description."""
        answer = self.send(method, path, body, token=token, headers=headers)
        said = f"{method} {path} {dict(headers or {})}: {answer.status} {answer.body[:500]!r}"
        assert not self._faults(method, path, answer), (said, self._faults(method, path, answer))
        return answer

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send, and look at nothing."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if body is None or isinstance(body, bytes) else {"Content-Type": _JSON}
        sent = {"Authorization": f"Bearer {token or self.token}", **kind, **(headers or {})}
        link = self._connect()
        try:
            link.request(method, path, body=data, headers=sent)
            with link.getresponse() as answer:
                found = dict(answer.getheaders())
                content_type = found.get("Content-Type", "").partition(";")[0]
                return Answer(answer.status, content_type, answer.read(), found)
        finally:
            link.close()

    def json(self, path: str, **options: Any) -> Any:
        """Get what must be there."""
        answer = self("GET", path, **options)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(*self._address, timeout=60)
        return http.client.HTTPSConnection(*self._address, timeout=60, context=self._tls)

    def _faults(self, method: str, path: str, answer: Answer) -> list[str]:
        found = self._find(method, path.partition("?")[0])
        if found is None:
            return [] if answer.status in {401, 404, 405} and answer.detail else ["not described"]
        if answer.status in _EVERYWHERE and method != "HEAD":
            return [] if answer.detail else ["no detail"]
        described = resolve(self._described, found["responses"].get(str(answer.status)))
        if described is None:
            return [f"status {answer.status} is not described"]
        kinds = described.get("content", {})
        if not answer.body:
            return [] if not kinds or method == "HEAD" or _LOG in kinds else ["the body is empty"]
        if answer.kind not in kinds:
            return [f"{answer.kind} is none of {list(kinds)}"]
        if answer.kind in (_LOG, "text/plain"):
            return []
        return faults(self._described, kinds[answer.kind]["schema"], yaml.safe_load(answer.body))

    def _find(self, method: str, path: str) -> Mapping[str, Any] | None:
        names = path.split("/")
        for known, template in operations(self._described):
            parts = template.split("/")
            if known == method.lower() and len(parts) == len(names):
                pairs = zip(parts, names, strict=True)
                if all(part == name or part.startswith("{") for part, name in pairs):
                    operation: Mapping[str, Any] = self._described["paths"][template][known]
                    return operation
        return None


_JSON, _LOG = "application/json", "application/octet-stream"
