from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_agent.containers.records import Record, RecordStore
from shipway_agent.containers.state import State
from shipway_agent.master.messages import Container, Device, Failure, FailureType
from shipway_agent.runtimes.spec import ContainerId

DEVICE = Device(id=3, brand="día", uuid="GPU-1", type="cuda")
RECORD = Record(
    agent_id="node",
    cluster_id="c",
    runtime="docker",
    container=Container(
        id=ContainerId("a-1"), state=State.RUNNING, devices=(DEVICE,), description="cmd \udcff"
    ),
    allocation_id="1.1",
    task_id="1",
    trial_id="7",
    session_token="v2.secret",
    profiles=True,
    ended_by_agent=True,
    task_type="COMMAND",
    ships_output=True,
    network_mode="host",
    ports=(1734,),
    delivered={"stdout": 5, "stderr": 0},
)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    store = RecordStore(tmp_path / "state/containers")
    store.open()
    return store


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(
            RECORD,
            failure=Failure(type=FailureType.CONTAINER_FAILED, message="m", exit_code=3),
            delivered={},
        ),
    ],
)
def test_a_record_comes_back_as_it_was(store: RecordStore, record: Record) -> None:
    store.save(record)
    assert store.load_all("node") == {"a-1": record}


def test_a_record_is_for_its_owner_only(store: RecordStore, tmp_path: Path) -> None:
    store.save(RECORD)
    file = tmp_path / "state/containers/a-1.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_records_of_another_agent_are_left_alone(store: RecordStore) -> None:
    store.save(RECORD)
    assert store.load_all("other") == {}
    assert len(store.load_all("node")) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1}'])
def test_a_file_that_cannot_be_read_hides_no_other(
    store: RecordStore, tmp_path: Path, text: str
) -> None:
    store.save(RECORD)
    (tmp_path / "state/containers/b.json").write_text(text)
    assert list(store.load_all("node")) == ["a-1"]


def test_a_forgotten_record_is_gone_and_may_be_forgotten_again(store: RecordStore) -> None:
    store.save(RECORD)
    store.delete(RECORD.container.id)
    store.delete(RECORD.container.id)
    assert store.load_all("node") == {}


def test_a_record_of_an_older_agent_is_read(store: RecordStore, tmp_path: Path) -> None:
    store.save(RECORD)
    file = tmp_path / "state/containers/a-1.json"
    document = json.loads(file.read_text())
    for later in ("task_id", "trial_id", "session_token", "profiles", "ended_by_agent"):
        del document[later]
    file.write_text(json.dumps(document))
    older = replace(
        RECORD,
        task_id="",
        trial_id=None,
        session_token=None,
        profiles=False,
        ended_by_agent=False,
    )
    assert store.load_all("node") == {"a-1": older}


def test_a_record_of_a_newer_agent_is_read(store: RecordStore, tmp_path: Path) -> None:
    store.save(RECORD)
    file = tmp_path / "state/containers/a-1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "unheard": {"of": 1}}))
    assert store.load_all("node") == {"a-1": RECORD}


def test_the_token_in_a_record_is_not_shown() -> None:
    assert "secret" not in repr(RECORD)
