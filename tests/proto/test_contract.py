"""Every item of the recorded contract is in the compiled one, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

import shipway_proto
from tests.proto.contract import (
    by_name,
    describe_enums,
    describe_messages,
    describe_rpcs,
    load_compiled,
    load_recorded,
)

PACKAGE_DIR = Path(shipway_proto.__file__).parent
FILES = sorted(load_recorded())
SERVICE_FILE = "determined/api/v1/api.proto"


def test_the_proto_files_are_those_of_the_contract() -> None:
    assert (
        sorted(p.relative_to(PACKAGE_DIR).as_posix() for p in PACKAGE_DIR.rglob("*.proto")) == FILES
    )


def test_the_contract_has_55_files_and_260_rpcs() -> None:
    rpcs = [r for f in load_recorded().values() for s in f.get("services", []) for r in s["rpcs"]]
    assert (len(FILES), len(rpcs)) == (55, 260)


@pytest.mark.parametrize("path", FILES)
def test_a_file_keeps_its_package_syntax_and_services(path: str) -> None:
    recorded, compiled = load_recorded()[path], load_compiled(path)
    assert compiled.name == f"shipway_proto/{path}"
    assert compiled.syntax == "proto3"
    assert compiled.package == recorded["package"]
    assert not compiled.extension
    services = [service["name"] for service in recorded.get("services", [])]
    assert [service.name for service in compiled.service] == services


@pytest.mark.parametrize("path", FILES)
def test_messages_are_equal(path: str) -> None:
    expected = by_name(load_recorded()[path]["messages"])
    assert describe_messages(load_compiled(path).message_type) == expected


@pytest.mark.parametrize("path", FILES)
def test_enums_are_equal(path: str) -> None:
    expected = by_name(load_recorded()[path]["enums"])
    assert describe_enums(load_compiled(path).enum_type) == expected


def test_rpcs_and_their_http_routes_are_equal() -> None:
    (recorded,) = load_recorded()[SERVICE_FILE]["services"]
    (compiled,) = load_compiled(SERVICE_FILE).service
    assert describe_rpcs(compiled) == by_name(recorded["rpcs"])


def test_rpcs_keep_their_order() -> None:
    (recorded,) = load_recorded()[SERVICE_FILE]["services"]
    (compiled,) = load_compiled(SERVICE_FILE).service
    assert [rpc.name for rpc in compiled.method] == [rpc["name"] for rpc in recorded["rpcs"]]
