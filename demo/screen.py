"""What people see of the demo, as it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_RANK_COLORS = ("cyan", "magenta", "green", "yellow")


class Screen:
    """Prints the story; keeps no facts of its own."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def headline(self, text: str) -> None:
        self._console.print()
        self._console.rule(Text(text, style="bold"), align="left")

    def step(self, text: str) -> None:
        self._console.print(Text("▸ ", style="bold blue") + Text(text))

    def problem(self, text: str) -> None:
        panel = Panel(Text(text), title="it did not work", border_style="red")
        self._console.print(panel, soft_wrap=False)

    def agents(self, agents: Sequence[Mapping[str, Any]]) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("agent", "pool", "slots", "device"):
            table.add_column(column)
        for agent in agents:
            slots = agent["slots"]
            marks = Text.assemble(
                *(
                    ("■ ", "green" if slot["enabled"] else "dim")
                    for _, slot in sorted(slots.items())
                )
            )
            brands = {
                slot["device"]["brand"] or slot["device"]["type"].removeprefix("TYPE_")
                for slot in slots.values()
            }
            pools = ", ".join(agent["resourcePools"])
            table.add_row(agent["id"], pools, marks, ", ".join(sorted(brands)))
        self._console.print(table)

    def log(self, line: Mapping[str, Any]) -> None:
        """Print one line of the task's log: the task's own in colour, the master's dimmed."""
        text = str(line["log"]).rstrip("\n")
        rank: int | None = line.get("rankId")
        time = str(line["timestamp"])[11:19]
        style = "dim italic" if line.get("source") == "master" else ""
        if rank is not None:
            text, style = f"[rank={rank}] {text}", _RANK_COLORS[rank % len(_RANK_COLORS)]
        self._console.print(Text(f"  {time} ", style="dim") + Text(text, style=style))

    def charts(self, series: Mapping[str, Sequence[float]]) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for name, values in sorted(series.items()):
            table.add_row(
                Text(name, style="bold"),
                Text(draw_sparkline(values), style="cyan"),
                f"{format_number(min(values))} … {format_number(max(values))}",
            )
        self._console.print(table)

    def findings(self, findings: Sequence[tuple[str, bool]]) -> None:
        for text, seen in findings:
            mark = Text("✔ ", style="bold green") if seen else Text("✘ ", style="bold red")
            self._console.print(mark + Text(text))


def draw_sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw *values* as one line of bars, the last *width* of them, lowest to highest."""
    shown = list(values)[-width:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in shown)


def format_number(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.1f}"
