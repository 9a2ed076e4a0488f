"""The recorded contract (data/api.json) and the compiled one, in one form, so that they can be compared.

The recording was taken from Determined 0.38.1. It says of each file: its package, messages, enums and
services; `required` holds the keys which that release's Python client reads without a default.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

API_JSON = Path(__file__).parent / "data" / "api.json"
FieldProto = descriptor_pb2.FieldDescriptorProto
Described = dict[str, Any]

_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in FieldProto.Type.items()
    if number not in (FieldProto.TYPE_MESSAGE, FieldProto.TYPE_ENUM)
}


@functools.cache
def load_recorded() -> Mapping[str, Any]:
    """Load the recorded files, by path such as ``determined/log/v1/log.proto``."""
    files: Mapping[str, Any] = json.loads(API_JSON.read_text())["files"]
    return files


def load_compiled(path: str) -> descriptor_pb2.FileDescriptorProto:
    """Load what the generated module of a .proto file says of itself."""
    module = importlib.import_module(
        "shipway_proto." + path.removesuffix(".proto").replace("/", ".") + "_pb2"
    )
    descriptor: FileDescriptor = module.DESCRIPTOR
    proto = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(proto)
    return proto


def by_name(items: Iterable[Mapping[str, Any]]) -> dict[str, Described]:
    """Index recorded messages, enums or RPCs, leaving out what is not on the wire."""
    return {item["name"]: _strip(item) for item in items}


def _strip(item: Mapping[str, Any]) -> Described:
    kept = {key: value for key, value in item.items() if key not in {"required", "tag"}}
    for key in ("messages", "enums"):
        if key in kept:
            kept[key] = by_name(kept[key])
    if "fields" in kept:
        kept["fields"] = sorted(kept["fields"], key=lambda field: int(field["n"]))
    return kept


def describe_messages(protos: Iterable[descriptor_pb2.DescriptorProto]) -> dict[str, Described]:
    """Describe compiled messages as the recording does; generated map entries are left out."""
    return {m.name: _describe_message(m) for m in protos if not m.options.map_entry}


def _describe_message(message: descriptor_pb2.DescriptorProto) -> Described:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    fields = [_describe_field(field, message, entries) for field in message.field]
    described: Described = {
        "name": message.name,
        "fields": sorted(fields, key=lambda field: int(field["n"])),
        # The end of a compiled range is exclusive.
        "reserved": [[reserved.start, reserved.end - 1] for reserved in message.reserved_range],
        "reserved_names": list(message.reserved_name),
        "messages": describe_messages(message.nested_type),
        "enums": describe_enums(message.enum_type),
    }
    return {key: value for key, value in described.items() if value or key == "fields"}


def _describe_field(
    field: FieldProto,
    message: descriptor_pb2.DescriptorProto,
    entries: Mapping[str, descriptor_pb2.DescriptorProto],
) -> Described:
    described: Described = {"n": field.number, "name": field.name, "type": _type_name(field)}
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        described["type"] = "map<{}, {}>".format(*(_type_name(part) for part in entry.field))
    elif field.label == FieldProto.LABEL_REPEATED:
        described["repeated"] = True
    if field.proto3_optional:
        described["optional"] = True
    elif field.HasField("oneof_index"):
        described["oneof"] = message.oneof_decl[field.oneof_index].name
    if field.options.deprecated:
        described["deprecated"] = True
    return described


def _type_name(field: FieldProto) -> str:
    return _SCALARS.get(field.type) or field.type_name.removeprefix(".")


def describe_enums(protos: Iterable[descriptor_pb2.EnumDescriptorProto]) -> dict[str, Described]:
    """Describe compiled enums as the recording does."""
    return {
        enum.name: {"name": enum.name, "values": {value.name: value.number for value in enum.value}}
        for enum in protos
    }


def describe_rpcs(service: descriptor_pb2.ServiceDescriptorProto) -> dict[str, Described]:
    """Describe compiled RPCs as the recording does, http annotation included."""
    return {method.name: _describe_rpc(method) for method in service.method}


def _describe_rpc(method: descriptor_pb2.MethodDescriptorProto) -> Described:
    described: Described = {
        "name": method.name,
        "request": method.input_type.removeprefix("."),
        "response": method.output_type.removeprefix("."),
        "http": _describe_http(method),
    }
    if method.client_streaming:
        described["client_streaming"] = True
    if method.server_streaming:
        described["server_streaming"] = True
    return described


def _describe_http(method: descriptor_pb2.MethodDescriptorProto) -> Described:
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    described: Described = {"verb": verb.upper(), "path": getattr(rule, verb)} if verb else {}
    for name in ("body", "response_body", "additional_bindings"):
        value = getattr(rule, name)
        if value:
            described[name] = value
    return described
