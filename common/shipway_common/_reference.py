"""Pages that list all settings of a daemon, made from its model; only for a checkout."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from shipway_common.settings import Settings

_REPOSITORY = Path(__file__).parents[2]
_TABLE_HEAD = "| key | default | meaning |\n|---|---|---|\n"
_WIDTH = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A table in a page of Markdown, and an example of the settings file."""

    page: str
    """Path in the checkout, as that of *example*."""
    example: str
    example_head: str
    defaults: Settings
    descriptions: Mapping[str, str]
    """Of each setting, by dotted key; in their order in the table."""

    def pages(self) -> dict[Path, str]:
        """Return what the files should hold."""
        page, example = _REPOSITORY / self.page, _REPOSITORY / self.example
        before, _, rest = page.read_text(encoding="utf-8").partition(_TABLE_HEAD)
        lines = rest.splitlines(keepends=True)
        rows = next((i for i, line in enumerate(lines) if not line.startswith("| ")), len(lines))
        after = "".join(lines[rows:])
        return {page: before + self.render_table() + after, example: self.render_example()}

    def render_table(self) -> str:
        """Return the settings as a table in Markdown."""
        rows = (
            f"| `{key}` | {_in_table(_default(self.defaults, key))} | {text} |\n"
            for key, text in self.descriptions.items()
        )
        return _TABLE_HEAD + "".join(rows)

    def render_example(self) -> str:
        """Return a settings file with each key in it, commented out."""
        return (
            "\n".join([self.example_head.rstrip(), *self._example_lines(self.defaults, "", 0)])
            + "\n"
        )

    def _example_lines(self, settings: Settings, prefix: str, depth: int) -> Iterator[str]:
        indent = "  " * depth
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if depth == 0:
                yield ""
            if isinstance(value, Settings):
                yield f"#{indent}{name}:"
                yield from self._example_lines(value, f"{prefix}{name}.", depth + 1)
                continue
            words = self.descriptions[prefix + name]
            start = f"#{indent}# " if depth else "# "
            yield from (f"{start}{line}" for line in textwrap.wrap(words, _WIDTH - len(start)))
            yield f"#{indent}{name}: {_in_yaml(value)}".rstrip()


def write_or_check(reference: Reference, module: str) -> None:
    """Write the files of *reference*; with --check only say whether they are as they should be."""
    pages = reference.pages()
    stale = [path for path, text in pages.items() if not _holds(path, text)]
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(str(path.relative_to(_REPOSITORY)) for path in stale)
            sys.exit(f"not as the settings are: {names}; run python -m {module}")
        return
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _default(settings: Settings, key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _in_table(value: object) -> str:
    if value is None or value in ("", (), [], {}):
        return ""
    return f"`{_in_yaml(value)}`"


def _in_yaml(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (tuple, list)):
        value = [str(one) for one in cast("list[object]", value)]
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, (Path, str)):
        value = str(value)
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    )
