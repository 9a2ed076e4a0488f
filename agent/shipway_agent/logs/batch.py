"""Lines that go to the master together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from shipway_agent.logs.lines import Lines
from shipway_agent.runtimes.spec import Stream

MAX_LINES = 4000
"""From so many on a batch is full. The Go master puts a batch into PostgreSQL by one statement with
ten parameters for each line, of which there may be 65,535."""

MAX_BYTES = 1 << 20
"""Of a batch on the wire, by a guess that is rather high; gRPC receivers take 4 MiB by default."""

_LINE_OVERHEAD_BYTES = 250  # ids, time and labels, which come again with each line


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """Lines and when they were read."""

    lines: Lines
    time_us: int
    """Microseconds since 1970: what a master's database keeps of a time."""


@dataclass(slots=True)
class Batch:
    """Some lines of one container, in order; grows until it is full."""

    parts: list[Stamped] = field(default_factory=list[Stamped])
    count: int = 0
    size_bytes: int = 0

    def add(self, lines: Lines, time_us: int) -> None:
        """Append lines."""
        self.parts.append(Stamped(lines=lines, time_us=time_us))
        self.count += len(lines.texts)
        self.size_bytes += sum(map(len, lines.texts)) + len(lines.texts) * _LINE_OVERHEAD_BYTES

    @property
    def is_full(self) -> bool:
        """Whether it should go before more is added."""
        return self.count >= MAX_LINES or self.size_bytes >= MAX_BYTES

    @property
    def ends(self) -> dict[Stream, int]:
        """Up to where each stream is dealt with once this batch is delivered."""
        return {part.lines.stream: part.lines.end for part in self.parts}

    def halves(self) -> tuple[Batch, Batch]:
        """Return two batches with the same lines; there must be two lines at least."""
        first, second, left = Batch(), Batch(), self.count // 2
        for part in self.parts:
            texts, ends = part.lines.texts, list(part.lines.ends())
            for batch, some in ((first, slice(left)), (second, slice(left, None))):
                if texts[some]:
                    lines = replace(part.lines, texts=texts[some], irregular_ends=ends[some])
                    batch.add(lines, part.time_us)
            left = max(0, left - len(texts))
        return first, second


def own_line(text: str, place: Stamped) -> Batch:
    """Return a line of the agent's own that takes the place of others."""
    texts = [f"[shipway: {text}]\n".encode()]
    lines = replace(place.lines, texts=texts, has_prefixes=False, irregular_ends=[place.lines.end])
    batch = Batch()
    batch.add(lines, place.time_us)
    return batch
