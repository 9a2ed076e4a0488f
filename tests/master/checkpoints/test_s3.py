"""Checkpoints in a bucket, read by the master from a real server."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime

import pytest
from aiohttp import web

from shipway_master.checkpoints.download.archive import FORMS, pack
from shipway_master.checkpoints.download.places import opened_source
from shipway_master.checkpoints.download.s3 import Bucket, opened_bucket
from shipway_master.checkpoints.download.signing import (
    Credentials,
    encode_path,
    encode_query,
    sign_get,
)
from shipway_master.checkpoints.download.source import SourceError
from tests.lab.s3 import ACCESS_KEY, S3, SECRET_KEY

NAMES = ["a+b c.txt", "deep/er/ü&<>.bin", "metadata.json"]
UPLOAD = """
bucket, folder, *names = sys.argv[1:]
client.put_object(Bucket=bucket, Key=folder + '/', Body=b'')
client.put_object(Bucket=bucket, Key=folder + '/deep/', Body=b'')
client.put_object(Bucket=bucket, Key=folder + '-other/x', Body=b'')
for name in names:
    client.put_object(Bucket=bucket, Key=f'{folder}/{name}', Body=name.encode() * 3)
"""
SIGN = """
import json
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
url, host, token = sys.argv[1:]
request = AWSRequest('GET', url, headers={'Host': host})
S3SigV4Auth(Credentials('lab-key', 'lab-secret/+=', token or None), 's3', 'eu-west-3').add_auth(request)
print(json.dumps({name.lower(): value for name, value in request.headers.items()}))
"""


@pytest.fixture(scope="module")
def bucket(s3: S3) -> dict[str, str]:
    """A bucket with a checkpoint in the folder runs/one, and how configurations name it."""
    storage = {**s3.make_bucket("own-bucket"), "prefix": "/runs/"}
    s3.run_python(UPLOAD, "own-bucket", "runs/one", *NAMES)
    return storage


async def test_a_checkpoint_is_read_whole(bucket: dict[str, str]) -> None:
    packer = FORMS["application/gzip"].make_packer()

    async with opened_source(bucket, "one") as source:
        data = b"".join([piece async for piece in pack(source, packer)])

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {one.name: tar.extractfile(one) for one in tar}
        found = {name: file and file.read() for name, file in files.items()}
    assert found == {
        "deep": None,
        **{name: name.encode() * 3 for name in NAMES},
    }


async def test_what_is_not_there(bucket: dict[str, str]) -> None:
    for changes, name, problem in (
        ({}, "two", "nothing below runs/two/"),
        ({"bucket": "no-such-bucket"}, "one", "404 NoSuchBucket"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "one", "Cannot connect"),
    ):
        async with opened_source({**bucket, **changes}, name) as source:
            with pytest.raises(SourceError, match=problem):
                await anext(source.entries())


@pytest.mark.parametrize("token", ["", "session-token/+="])
def test_requests_are_signed_as_amazons_own_client_does(s3: S3, token: str) -> None:
    host, path = "bucket.example:9000", encode_path("/a b/ü+&~/c.txt")
    query = encode_query({"prefix": "x y/+", "list-type": "2", "empty": ""})
    signed = json.loads(s3.run_python(SIGN, f"http://{host}{path}?{query}", host, token))
    credentials = Credentials(
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, session_token=token or None
    )
    now = datetime.strptime(signed["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    headers = sign_get(
        host=host, path=path, query=query, region="eu-west-3", credentials=credentials, now=now
    )

    assert headers == signed


LISTING = "<ListBucketResult><Contents><Key>{}</Key><Size>1</Size>{}</Contents></ListBucketResult>"
PAGE = LISTING.replace("</List", "<NextContinuationToken>{}</NextContinuationToken></List")
CHANGED = "<LastModified>2026-03-01T12:00:00.000Z</LastModified>"


class Odd:
    """A server that says what a test wants; `asked` are the queries that it has heard."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.asked: list[Mapping[str, str]] = []
        self.url = ""


@pytest.fixture
async def odd() -> AsyncGenerator[Odd]:
    """Run such a server."""
    server = Odd()

    async def answer(request: web.Request) -> web.Response:
        server.asked.append(dict(request.query))
        return server.answers.pop(0)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


async def list_paths(odd: Odd) -> list[str]:
    """List a bucket of such a server."""
    credentials = Credentials(access_key="a", secret_key="b")
    bucket = Bucket(name="b", endpoint_url=odd.url, credentials=credentials)
    async with opened_bucket(bucket, "one") as source:
        return [entry.path async for entry in source.entries()]


async def test_long_listings_come_in_pages(odd: Odd) -> None:
    for text in (PAGE.format("one/a", CHANGED, "t/+="), LISTING.format("one/b", CHANGED)):
        odd.answers.append(web.Response(text=text))

    assert await list_paths(odd) == ["a", "b"]
    assert [query.get("continuation-token") for query in odd.asked] == [None, "t/+="]


async def test_a_bucket_of_another_region_is_asked_there(odd: Odd) -> None:
    odd.answers = [
        web.Response(status=301, headers={"x-amz-bucket-region": "eu-west-3"}),
        web.Response(text=LISTING.format("one/a", CHANGED)),
    ]

    assert await list_paths(odd) == ["a"]


@pytest.mark.parametrize(
    ("status", "text", "problem"),
    [
        pytest.param(200, "nothing", "no XML", id="no XML"),
        pytest.param(
            200, '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declarations", id="entities"
        ),
        pytest.param(200, LISTING.format("one/../../x", CHANGED), "no path", id="path leads out"),
        pytest.param(200, LISTING.format("one//etc/x", CHANGED), "no path", id="empty part"),
        pytest.param(200, LISTING.format("one/x", ""), "unreadable", id="no date"),
        pytest.param(302, "", "302", id="leads elsewhere"),
        pytest.param(403, "<Error><Code>Nope</Code></Error>", "403 Nope", id="refused"),
    ],
)
async def test_what_a_server_must_not_say(odd: Odd, status: int, text: str, problem: str) -> None:
    headers = {"Location": "http://127.0.0.1:1/"}
    odd.answers = [web.Response(status=status, text=text, headers=headers)]

    with pytest.raises(SourceError, match=problem):
        await list_paths(odd)
