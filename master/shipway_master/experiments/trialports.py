"""The ports that the ranks of a trial meet at.

Trials may share the network of a node, so no two live ones have the same. Facts:
task-environment.md 3.4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

_BASES = {
    "DTRAIN_SSH_PORT": 12350,
    "INTER_TRAIN_PROCESS_COMM_PORT_1": 12360,
    "INTER_TRAIN_PROCESS_COMM_PORT_2": 12365,
    "C10D_PORT": 29400,
}
_PORT_LIMIT = 65536


def choose_ports(in_use: Collection[int]) -> list[int]:
    """Choose the lowest ports that no live trial has."""
    taken = set(in_use)
    chosen: list[int] = []
    for base in _BASES.values():
        port = next((port for port in range(base, _PORT_LIMIT) if port not in taken), base)
        taken.add(port)
        chosen.append(port)
    return chosen


def name_ports(ports: Sequence[int]) -> Mapping[str, str]:
    """The variables that tell a trial its ports."""
    return {name: str(port) for name, port in zip(_BASES, ports, strict=True)}
