"""Which ranks of an allocation have said that their container runs."""

from __future__ import annotations

from shipway_master.allocations.errors import InvalidCall


class RankReports:
    """The reports of one allocation. Different ranks are counted; a repeated one is not."""

    def __init__(self) -> None:
        self.num_peers = 0
        self._nodes: dict[int, str] = {}

    @staticmethod
    def require_possible(rank: int, *, num_peers: int) -> None:
        """Check the numbers of a report.

        Raises:
            InvalidCall: They cannot be right.
        """
        if num_peers < 1 or not 0 <= rank < num_peers:
            raise InvalidCall(f"rank {rank} of {num_peers} peers cannot be right")

    def add(self, rank: int, *, num_peers: int, node_name: str) -> bool:
        """Note a rank; True when it is new."""
        self.num_peers = num_peers
        is_new = rank not in self._nodes
        self._nodes[rank] = node_name
        return is_new

    @property
    def count(self) -> int:
        """How many different ranks have reported."""
        return len(self._nodes)

    @property
    def are_all_running(self) -> bool:
        """Whether every rank has reported; False while none has."""
        return 0 < self.num_peers <= len(self._nodes)

    @property
    def nodes(self) -> list[str]:
        """The nodes of the ranks, in rank order, each once."""
        return list(dict.fromkeys(self._nodes[rank] for rank in sorted(self._nodes)))

    def describe(self) -> str:
        """The line for the task log."""
        nodes = ", ".join(self.nodes)
        return f"{self.count} out of {self.num_peers} containers running on nodes {nodes}"
