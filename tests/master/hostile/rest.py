"""Hostile requests over HTTP: one call of the API, bent out of shape."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_from_bytes

from google.protobuf.descriptor import FieldDescriptor

from shipway_master.rpc import METHODS, Method
from tests.master.hostile.values import NUMBERS, TEXTS, Known, corrupt, make_object, to_text

ANSWER_LIMIT_S: Final = 60
"""So long a call may take before it counts as hung; the machine may be busy."""
WAIT_S: Final = 0.3
WAITING: Final = frozenset(
    {
        *("AllocationPreemptionSignal", "AllocationAllGather", "AllocationRendezvousInfo"),
        "DeleteTensorboardFiles",  # until a task has removed them
    }
)
"""These may wait for something to happen; they are given up after `WAIT_S`."""

_VERBS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")
_TYPES: Final = ("application/json", "text/plain", "application/xml", "", "multipart/form-data")
_LENGTH: Final = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_GO_ON: Final = b"HTTP/1.1 100 "
_BIG_BYTES: Final = 3 << 20


@dataclass(frozen=True)
class Attack:
    """One request, as it goes over the wire."""

    method: str
    """The RPC that it is made from."""
    data: bytes
    may_be_cut: bool = False
    """The connection may be closed without an answer: the request never came as a whole."""

    @property
    def is_head(self) -> bool:
        """Whether the answer has no body, whatever its length is said to be."""
        return self.data.startswith(b"HEAD ")

    def __str__(self) -> str:
        return f"{self.method}: {self.data[:600]!r}"


@dataclass(frozen=True)
class Verdict:
    """What became of an attack."""

    status: int | None
    """None: the connection was closed without an answer."""
    body: bytes

    def problem(self, attack: Attack) -> str | None:
        """Say what is wrong with this answer; None if nothing is."""
        if self.status is None:
            return None if attack.may_be_cut else "no answer"
        if self.status >= 500 and self.status != 501:
            return f"status {self.status}: {self.body[:300]!r}"
        if b"Traceback (most recent call last)" in self.body:
            return f"a traceback: {self.body[:300]!r}"
        return None


def make_attack(method: Method, known: Known, rng: random.Random, *, token: str) -> Attack:
    """Bend a request for *method* in one way or several."""
    data = make_object(method.request.DESCRIPTOR, known, rng)
    target = _make_target(method, data, rng)
    verb, headers = method.verb, {"Host": "master", "Connection": "close"}
    if rng.random() < 0.95:
        headers["Authorization"] = f"Bearer {token}"
    body = _make_body(method, data, rng)
    if rng.random() < 0.04:
        verb = rng.choice(_VERBS)
    if rng.random() < 0.1:
        headers["Content-Type"] = rng.choice(_TYPES)
    if rng.random() < 0.05:
        headers.update(_strange_header(rng))
    if "Content-Encoding" not in headers and rng.random() < 0.06:
        return _with_strange_transfer(method.name, verb, target, headers, body, rng)
    headers["Content-Length"] = str(len(body))
    return Attack(method.name, _head(verb, target, headers) + body)


async def send(port: int, attack: Attack) -> Verdict | None:
    """Send an attack and read the answer; None: it waits, as this call may.

    Raises:
        TimeoutError: It hangs.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    may_wait = attack.method in WAITING
    try:
        async with asyncio.timeout(WAIT_S if may_wait else ANSWER_LIMIT_S):
            writer.write(attack.data)
            if attack.may_be_cut and not writer.is_closing():
                writer.write_eof()
            has_end = not METHODS[attack.method].is_stream
            return await _read_answer(reader, has_end=has_end, has_body=not attack.is_head)
    except TimeoutError:  # an OSError, too
        if may_wait:
            return None
        raise
    except OSError:  # it was hung up, maybe before all was said
        return Verdict(None, b"")
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader, *, has_end: bool, has_body: bool) -> Verdict:
    """Read an answer to its end; of a stream, which may go on for ever, only the beginning."""
    head = bytearray()
    while b"\r\n\r\n" not in head or head.startswith(_GO_ON):
        if head.startswith(_GO_ON) and b"\r\n\r\n" in head:
            del head[: head.index(b"\r\n\r\n") + 4]
            continue
        piece = await reader.read(1 << 16)
        if not piece:
            return Verdict(None, bytes(head))
        head += piece
    first, _, body = bytes(head).partition(b"\r\n\r\n")
    status = int(first.split(b" ", 2)[1])
    length = _LENGTH.search(first)
    while has_body and (has_end or status != 200) and not (length and len(body) >= int(length[1])):
        piece = await reader.read(1 << 16)
        if not piece:
            break
        body = (body + piece)[: 1 << 20]
    return Verdict(status, body)


def _head(verb: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{verb} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass")


def _make_target(method: Method, data: dict[str, Any], rng: random.Random) -> str:
    segments: list[str] = []
    for segment in method.path.split("/"):
        if segment.startswith("{"):
            segments.append(_path_text(_take(data, segment[1:-1], method), rng))
        else:
            segments.append(segment)
    target = "/".join(segments)
    if rng.random() < 0.03:
        target += rng.choice(("/", "//", "/..", "/%2e%2e", ";a=b", "/../../v1/me", "%00", "#a"))
    pairs: list[str] = []
    if method.body != "*":
        for name, value in data.items():
            pairs += _query_pairs(name, value, rng)
    if rng.random() < 0.05:
        pairs.append(rng.choice(("=", "a=%ff", "&&&", "a[b]=c", "pretty", "%", "a.b.c=1", "[]=1")))
    return target + ("?" + "&".join(pairs) if pairs else "")


def _take(data: dict[str, Any], dotted: str, method: Method) -> Any:
    """Take the value of a path parameter out of the data of the request."""
    descriptor: Any = method.request.DESCRIPTOR
    level: Any = data
    *parents, last = dotted.split(".")
    for name in parents:
        parent = descriptor.fields_by_name[name]
        level = level.get(parent.json_name, level.get(name)) or {}
        descriptor = parent.message_type
        if not isinstance(level, dict):
            level = {}
    field: Any = descriptor.fields_by_name[last]
    return level.pop(field.json_name, level.pop(last, 1 if _is_whole(field) else "a"))


def _is_whole(field: FieldDescriptor) -> bool:
    return field.cpp_type <= FieldDescriptor.CPPTYPE_UINT64


def _path_text(value: Any, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.2:
        value = rng.choice(TEXTS)[:200]
    elif chance < 0.3:
        value = rng.choice(NUMBERS)
    elif chance < 0.33:
        return rng.choice(
            ("%ff", "%c0%ae%c0%ae", "%2e%2e", "..", "%ed%a0%80", "%", "a%0d%0ab", "~")
        )
    elif chance < 0.35:
        return quote_from_bytes(rng.randbytes(12), safe="")
    return _quoted(str(value)) or "%20"


def _query_pairs(name: str, value: Any, rng: random.Random) -> list[str]:
    if isinstance(value, dict):
        found = [_query_pairs(f"{name}.{key}", item, rng) for key, item in value.items()]
        return [pair for pairs in found for pair in pairs]
    values = value if isinstance(value, list) else [value]
    if rng.random() < 0.05:
        values = [*values, *values]
    if rng.random() < 0.25:
        values = [rng.choice(rng.choice((TEXTS, NUMBERS)))]
    texts = [str(item).lower() if isinstance(item, bool) else str(item) for item in values]
    return [f"{_quoted(name)}={_quoted(text[:2000])}" for text in texts]


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _make_body(method: Method, data: dict[str, Any], rng: random.Random) -> bytes:
    if not method.body:
        return b"" if rng.random() < 0.9 else to_text(corrupt(data, rng))
    if method.body != "*":
        field = method.request.DESCRIPTOR.fields_by_name[method.body]
        body = data.get(field.json_name, data.get(field.name, {}))
    else:
        body = data
    text = to_text(corrupt(body, rng))
    chance = rng.random()
    if chance < 0.04:
        return text[: rng.randrange(len(text) + 1)]
    if chance < 0.06:
        return text + rng.choice((b"}", b"\0", text, b" " * 1000, b"//", b"\xff"))
    if chance < 0.08:
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.randbytes(3) + text[at:]
    if chance < 0.09:
        return rng.choice((b"[" * 100_000, b'{"a":' * 20_000, b"\xef\xbb\xbf{}", b"nul", b'"'))
    if chance < 0.095:
        return b'{"a":"' + b"x" * _BIG_BYTES + b'"}'
    return text


def _strange_header(rng: random.Random) -> dict[str, str]:
    return rng.choice(
        (
            {"Content-Encoding": "gzip"},
            {"Content-Encoding": "br"},
            {"Content-Encoding": "identity, gzip"},
            {"Accept-Encoding": "gzip;q=x, *;q=,,"},
            {"Accept": "\x01"},
            {"Cookie": "auth=; auth=a; \x01=; ;;=" + "a" * 3000},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer \t\x7f"},
            {"Grpc-Metadata-x-allocation-token": "Bearer a", "Authorization": ""},
            {"Range": "bytes=5-1,-"},
            {"X-Long": "a" * 6000},
            {"Expect": "100-continue"},
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
            {"Forwarded": "for=\x01", "X-Forwarded-For": "::" * 200},
            {"Host": "a b:99999999"},
        )
    )


def _with_strange_transfer(
    name: str, verb: str, target: str, headers: dict[str, str], body: bytes, rng: random.Random
) -> Attack:
    match rng.randrange(7):
        case 0:  # less than was said
            headers["Content-Length"] = str(len(body) + 10)
            return Attack(name, _head(verb, target, headers) + body, may_be_cut=True)
        case 1:
            headers["Content-Length"] = rng.choice(
                ("-1", "a", "1, 1", "99999999999999999999", "+1")
            )
            return Attack(name, _head(verb, target, headers) + body, may_be_cut=True)
        case 2:
            headers["Transfer-Encoding"] = "chunked"
            chunks = rng.choice((b"zz\r\n", b"-5\r\nabc\r\n", b"5;\xff\r\nab", b"FFFFFFFFFF\r\na"))
            return Attack(name, _head(verb, target, headers) + chunks, may_be_cut=True)
        case 3:
            headers |= {"Transfer-Encoding": "chunked", "Content-Length": "3"}
            return Attack(name, _head(verb, target, headers) + b"0\r\n\r\n", may_be_cut=True)
        case 4:  # what unpacks into something else than was hoped for
            headers["Content-Encoding"] = "gzip"
            packed = gzip.compress(body, 1)
            packed = rng.choice((packed, packed[:-6], packed[:12] + b"\0" * 9, body, packed * 2))
            headers["Content-Length"] = str(len(packed))
            return Attack(name, _head(verb, target, headers) + packed)
        case 5:
            pieces = b"".join(
                b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body[:300]))
            )
            headers["Transfer-Encoding"] = "chunked"
            data = _head(verb, target, headers) + pieces + b"0\r\n\r\n"
            return Attack(name, data)
        case _:
            headers["Content-Length"] = str(len(body))
            head = _head(verb, target, headers)
            return Attack(name, head[: rng.randrange(len(head))], may_be_cut=True)
