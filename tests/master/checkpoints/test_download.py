"""Checkpoints as archives, from folders that their users own."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import uuid
import zipfile
from pathlib import Path
from typing import Any

import pytest

from shipway_master.checkpoints.download.archive import FORMS, pack
from shipway_master.checkpoints.download.folder import FolderSource
from shipway_master.checkpoints.download.source import Entry, SourceError
from shipway_master.store.database import Database
from tests.master.checkpoints_in_store import add_checkpoint
from tests.master.experiments_in_store import CONFIG, add_experiment, add_trial
from tests.master.running import Answer, MasterUnderTest

FILES = {
    "metadata.json": b"{}",
    "model/a'; echo foo\n": b"hostile",
    "model/deep/ü.bin": os.urandom(2_500_000),
    "model/empty": b"",
}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    """Write a checkpoint."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


async def fetch(source: Any, media_type: str = "application/gzip") -> bytes:
    """Make a whole archive."""
    return b"".join([piece async for piece in pack(source, FORMS[media_type].make_packer())])


async def list_paths(source: FolderSource) -> list[str]:
    """List what a source gives out."""
    return [entry.path async for entry in source.entries()]


@pytest.mark.parametrize("media_type", ["application/gzip", "application/x-tar"])
async def test_tars_hold_all_files_as_they_are(tmp_path: Path, media_type: str) -> None:
    write(tmp_path / "one")

    data = await fetch(FolderSource(tmp_path, "one"), media_type)

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]
    assert found == FILES


async def test_zips_hold_all_files_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "one")

    data = await fetch(FolderSource(tmp_path, "one"), "application/zip")

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if not name.endswith("/")]
        assert {name: archive.read(name) for name in names} == FILES


async def test_nothing_leads_out_of_the_checkpoint(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", {"key": b"s3cr"})
    one = write(tmp_path / "one", {"step/a": b"1"})
    (one / "latest").symlink_to("step/a")
    (one / "step" / "up").symlink_to("../step")
    (one / "absolute").symlink_to(secret / "key")
    (one / "relative").symlink_to("../secret")
    (one / "step" / "through").symlink_to("../../secret/key")
    os.mkfifo(one / "pipe")
    source = FolderSource(tmp_path, "one")

    assert await list_paths(source) == ["latest", "step/", "step/a", "step/up"]
    with tarfile.open(fileobj=io.BytesIO(await fetch(source))) as tar:
        assert tar.getmember("latest").linkname == "step/a"


async def test_what_is_put_in_place_of_a_folder_or_file_is_not_followed(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", {"key": b"s3cr"})
    one = write(tmp_path / "one", {"step/key": b"1"})
    source = FolderSource(tmp_path, "one")
    entries = [entry async for entry in source.entries()]
    shutil.rmtree(one / "step")
    (one / "step").symlink_to(secret)

    for path in ("step/key", "../secret/key", "step"):
        with pytest.raises(SourceError):
            await anext(source.read(Entry(path=path)))
    assert [entry.path for entry in entries] == ["step/", "step/key"]
    (tmp_path / "link").symlink_to(secret)
    with pytest.raises(SourceError):
        await list_paths(FolderSource(tmp_path, "link"))


@pytest.mark.parametrize("change", [b"longer", b"", None])
async def test_a_file_that_changes_breaks_the_archive_off(
    tmp_path: Path, change: bytes | None
) -> None:
    one = write(tmp_path / "one", {"a": b"1", "b": b"22"})
    pieces = pack(FolderSource(tmp_path, "one"), FORMS["application/x-tar"].make_packer())
    await anext(pieces)
    if change is None:
        (one / "b").unlink()
    else:
        (one / "b").write_bytes(change)

    with pytest.raises(SourceError, match="b"):
        async for _ in pieces:
            pass


async def add(database: Database, storage: dict[str, Any], **changes: Any) -> str:
    """Write down a checkpoint in a storage, and return its UUID."""
    experiment_id = await add_experiment(database, config={**CONFIG, "checkpoint_storage": storage})
    return await add_checkpoint(database, await add_trial(database, experiment_id), **changes)


async def ask(
    master: MasterUnderTest, path: str, *, token: str | None = "user", accept: str = "*/*"
) -> Answer:
    """Ask for a path beside the API."""
    headers = {"Accept": accept}
    if token is not None:
        headers |= master.auth(master.user_token if token == "user" else token)
    async with master.session.get(f"{master.url}{path}", headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


@pytest.mark.parametrize(
    ("accept", "media_type", "suffix"),
    [
        ("application/gzip", "application/gzip", "tar.gz"),
        ("text/html, application/zip;q=0.9", "application/zip", "zip"),
        ("*/*", "application/x-tar", "tar"),
    ],
)
async def test_the_form_is_chosen_by_who_asks(
    master: MasterUnderTest,
    database: Database,
    tmp_path: Path,
    accept: str,
    media_type: str,
    suffix: str,
) -> None:
    one = await add(database, {"type": "directory", "container_path": str(tmp_path)})
    write(tmp_path / one)

    answer = await ask(master, f"/checkpoints/{one}", accept=accept)

    assert (answer.status, answer.headers["Content-Type"]) == (200, media_type)
    assert f'filename="{one}.{suffix}"' in answer.headers["Content-Disposition"]
    assert len(answer.body) > len(FILES["model/deep/ü.bin"])


async def test_what_cannot_be_fetched(
    master: MasterUnderTest, database: Database, tmp_path: Path
) -> None:
    shared = {"type": "shared_fs", "host_path": str(tmp_path)}
    absent, gone = await add(database, shared), await add(database, shared, state="DELETED")
    google = await add(database, {"type": "gcs", "bucket": "b"})
    keyless = await add(database, {"type": "s3", "bucket": "b"})
    outside = await add(database, {**shared, "storage_path": "../elsewhere"})

    async def told(name: str, **options: Any) -> tuple[int, str]:
        answer = await ask(master, f"/checkpoints/{name}", **options)
        return answer.status, answer.json["message"]

    problem = f"the master cannot read {tmp_path}/{absent}: No such file or directory"
    assert await told(absent) == (400, f"checkpoint {absent}: {problem}")
    assert (await told(gone))[0] == 400
    assert "'gcs'" in (await told(google))[1]
    assert "access_key" in (await told(keyless))[1]
    assert (await told(outside))[0] == 400
    assert (await told(str(uuid.uuid4())))[0] == 404
    assert (await told("..%2F..%2Fetc"))[0] == 400
    assert (await told(absent, accept="text/html"))[0] == 415
    assert (await told(absent, token=None))[0] == 401


async def test_what_another_policy_would_remove(
    master: MasterUnderTest, database: Database
) -> None:
    trial_id = await add_trial(database, await add_experiment(database))
    saved = [
        await add_checkpoint(database, trial_id, steps=steps, validation={"loss": 1 / steps})
        for steps in (1, 2, 3)
    ]
    path = "/experiments/1/preview_gc?save_experiment_best=0&save_trial_best=0&save_trial_latest"

    answer = await ask(master, f"{path}=2")

    assert answer.json["metric_name"] == "loss"
    assert [one["UUID"] for one in answer.json["checkpoints"]] == saved[:1]
    assert {"TrialID", "ReportTime"} <= answer.json["checkpoints"][0].keys()
    assert (await ask(master, f"{path}=-1")).status == 400
    assert (await ask(master, path.replace("/1/", "/99/") + "=1")).status == 404
