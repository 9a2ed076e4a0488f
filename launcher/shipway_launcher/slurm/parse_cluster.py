"""Read what Slurm's commands print about nodes and partitions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from shipway_launcher.slurm.commands import Columns
from shipway_launcher.slurm.gres import Gpus, parse_gpus
from shipway_launcher.slurm.parse import parse_number, parse_records
from shipway_launcher.slurm.rows import NodeRow, PartitionRow

_SHOWN_PARTITION = re.compile(r"^PartitionName=(\S+) (.*)$", re.MULTILINE)

_IN_SERVICE = {"idle", "mixed", "allocated", "completing", "reserved", "planned", "blocked"}
_IN_USE = {"mixed", "allocated"}
_OUT_OF_SERVICE = re.compile(
    r"down|drain(ed|ing)?|drng|fail(ing)?|maint|error|inval(id(_reg)?)?|unk(nown)?|future"
    r"|not?_respond(ing)?|reboot(ing|_issued)?"
)


def parse_partitions(stdout: str) -> list[PartitionRow]:
    """Read the answer to `commands.show_partitions`."""
    return [
        PartitionRow(
            name=name,
            is_default="Default=YES" in rest.split(),
            total_nodes=parse_number(_value(rest, "TotalNodes")) or 0,
            max_nodes=parse_number(_value(rest, "MaxNodes")),
        )
        for name, rest in _SHOWN_PARTITION.findall(stdout)
    ]


def parse_nodes(
    columns: Columns, stdout: str, partition_order: Sequence[str] = ()
) -> list[NodeRow]:
    """Read the answer to `commands.list_nodes`: one row a node, with all its partitions."""
    places = {name: place for place, name in enumerate(partition_order)}
    rows: dict[str, NodeRow] = {}
    partitions: dict[str, list[str]] = {}
    for record in parse_records(columns, stdout):
        name = record["NodeList"]
        if not name or " " in name:
            continue
        partitions.setdefault(name, []).append(record.get("PartitionName", "").strip())
        partitions[name].sort(key=lambda partition: places.get(partition, len(places)))
        rows[name] = _node_row(record, partitions[name])
    return list(rows.values())


def _node_row(record: Mapping[str, str], partitions: list[str]) -> NodeRow:
    state = (record.get("StateComplete") or record.get("StateLong") or "").lower()
    # `idle*` does not answer; other signs behind a word tell of its power supply.
    words = re.findall(r"[a-z_]+", state)
    word = words[0] if words else ""
    is_out = "*" in state or any(_OUT_OF_SERVICE.fullmatch(flag) for flag in words)
    is_in_service = word in _IN_SERVICE and not is_out
    cpus = re.fullmatch(r"(\d+)/(\d+)/(\d+)/(\d+)", record.get("CPUsState", "").strip())
    return NodeRow(
        name=record["NodeList"],
        partitions=tuple(dict.fromkeys(name for name in partitions if name)),
        address=record.get("NodeAddr", "").strip(),
        is_in_service=is_in_service,
        is_draining="drain" in state or "drng" in state,
        is_allocated=word in _IN_USE or bool(cpus and int(cpus.group(1))),
        cpus=int(cpus.group(4)) if cpus else 0,
        cpus_in_use=int(cpus.group(1)) if cpus else 0,
        gpus=parse_gpus(record.get("Gres", "")) or Gpus(),
        gpus_in_use=parse_gpus(record.get("GresUsed", "")) or Gpus(),
    )


def _value(text: str, key: str) -> str:
    match = re.search(rf"(?:^| ){key}=(\S*)", text)
    return match.group(1) if match else ""
