"""Readers of the .proto files find words of ours where names do not say it all."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import shipway_proto
from tests.lab.require import require

PACKAGE_DIR = Path(shipway_proto.__file__).parent
FileProto = descriptor_pb2.FileDescriptorProto


@pytest.fixture(autouse=True)
def _needs_protoc() -> None:
    missing = [] if importlib.util.find_spec("grpc_tools") else ["grpcio-tools"]
    require("the comments test", missing, hint="install the gen group of pyproject.toml")


@functools.cache
def _parse_files() -> dict[str, FileProto]:
    """Parse all .proto files, comments included: compiled descriptors have lost them."""
    google_dir = Path(next(iter(_find_locations("google.api")))).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", "--include_source_info"),
            *(f"-Ishipway_proto={PACKAGE_DIR}", f"-I{google_dir}", f"--descriptor_set_out={out}"),
            *(f"shipway_proto/{p.relative_to(PACKAGE_DIR)}" for p in PACKAGE_DIR.rglob("*.proto")),
        ]
        subprocess.run(command, check=True, timeout=60)
        parsed = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return {file.name.removeprefix("shipway_proto/"): file for file in parsed.file}


def _find_locations(package: str) -> Sequence[str]:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    return spec.submodule_search_locations or []


def _comments(file: FileProto) -> dict[tuple[int, ...], str]:
    """Leading comments by the path of what they stand before."""
    return {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
    }


def _types_with_paths(file: FileProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    for index, enum in enumerate(file.enum_type):
        yield enum.name, (FileProto.ENUM_TYPE_FIELD_NUMBER, index)
    for index, message in enumerate(file.message_type):
        path = (FileProto.MESSAGE_TYPE_FIELD_NUMBER, index)
        yield message.name, path
        for nested_index, enum in enumerate(message.enum_type):
            number = descriptor_pb2.DescriptorProto.ENUM_TYPE_FIELD_NUMBER
            yield enum.name, (*path, number, nested_index)


def test_every_rpc_has_a_sentence_of_its_own() -> None:
    file = _parse_files()["determined/api/v1/api.proto"]
    comments = _comments(file)
    method_number = descriptor_pb2.ServiceDescriptorProto.METHOD_FIELD_NUMBER
    sentences = {
        method.name: comments[FileProto.SERVICE_FIELD_NUMBER, 0, method_number, index]
        for index, method in enumerate(file.service[0].method)
    }
    poor = [name for name, text in sentences.items() if len(text.split()) < 3 or text[-1:] != "."]
    assert not poor
    assert len(set(sentences.values())) == len(sentences) == 260


def test_every_file_says_what_it_is_for() -> None:
    syntax = (FileProto.SYNTAX_FIELD_NUMBER,)
    silent = []
    for name, file in _parse_files().items():
        (location,) = (x for x in file.source_code_info.location if tuple(x.path) == syntax)
        if not location.leading_detached_comments:
            silent.append(name)
    assert not silent


def test_every_type_says_what_it_is_unless_its_rpc_or_its_name_does() -> None:
    silent = [
        f"{file.package}.{name}"
        for file in _parse_files().values()
        for name, path in _types_with_paths(file)
        if not name.endswith(("Request", "Response")) and name != "SortBy"
        if not _comments(file).get(path)
    ]
    assert not silent
