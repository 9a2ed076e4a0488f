"""The pages that list all settings, made from the model: `python -m shipway_agent._reference`.

Writes the table in docs/agent.md and the example systemd/agent.yaml of the checkout; with --check
it says whether they are as they should be, and writes nothing.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import yaml

from shipway_agent.config import AgentSettings, list_options
from shipway_common.settings import Settings

_REPOSITORY = Path(__file__).parents[2]
_TABLE_HEAD = "| key | default | meaning |\n|---|---|---|\n"
_EXAMPLE_HEAD = """\
# Settings of shipway-agent, at /etc/determined/agent.yaml.
#
# Each key is here with its default. What is set in the environment (/etc/default/shipway-agent)
# wins over this file; `shipway-agent check` says what is missing, unsafe or mistaken.
"""
_WIDTH = 96


def main() -> None:
    """Write the pages, or check them."""
    stale = [path for path, text in pages().items() if not _holds(path, text)]
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(str(path.relative_to(_REPOSITORY)) for path in stale)
            sys.exit(f"not as the settings are: {names}; run python -m shipway_agent._reference")
        return
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def pages() -> dict[Path, str]:
    """Return what the pages should hold."""
    page, example = _REPOSITORY / "docs/agent.md", _REPOSITORY / "systemd/agent.yaml"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(_TABLE_HEAD)
    lines = rest.splitlines(keepends=True)
    rows = next((i for i, line in enumerate(lines) if not line.startswith("| ")), len(lines))
    return {page: before + render_table() + "".join(lines[rows:]), example: render_example()}


def render_table() -> str:
    """Return the settings as a table in Markdown."""
    defaults = AgentSettings()
    rows = (
        f"| `{option.key}` | {_in_table(_default(defaults, option.key))} | {option.description} |\n"
        for option in list_options()
    )
    return _TABLE_HEAD + "".join(rows)


def render_example() -> str:
    """Return a settings file with each key in it, commented out."""
    return "\n".join([_EXAMPLE_HEAD.rstrip(), *_example_lines(AgentSettings(), "", 0)]) + "\n"


def _example_lines(settings: Settings, prefix: str, depth: int) -> Iterator[str]:
    descriptions = {option.key: option.description for option in list_options()}
    indent = "  " * depth
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if depth == 0:
            yield ""
        if isinstance(value, Settings):
            yield f"#{indent}{name}:"
            yield from _example_lines(value, f"{prefix}{name}.", depth + 1)
            continue
        words = descriptions[prefix + name]
        start = f"#{indent}# " if depth else "# "
        yield from (f"{start}{line}" for line in textwrap.wrap(words, _WIDTH - len(start)))
        yield f"#{indent}{name}: {_in_yaml(value)}".rstrip()


def _default(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _in_table(value: object) -> str:
    if value is None or value in ("", ()):
        return ""
    return f"`{_in_yaml(value)}`"


def _in_yaml(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        value = [str(one) for one in cast("tuple[object, ...]", value)]
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, Path):
        value = str(value)
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    )


if __name__ == "__main__":
    main()
