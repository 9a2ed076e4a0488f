"""Pages that list all settings of a daemon, made from its model; only for a checkout."""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

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
        example = _REPOSITORY / self.example
        return {**fill_table(self.page, self._rows()), example: self.render_example()}

    def _rows(self) -> Iterator[tuple[str, object, str]]:
        for key, text in self.descriptions.items():
            yield key, _default(self.defaults, key), text

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


class HasPages(Protocol):
    """What is written into files of the checkout."""

    def pages(self) -> dict[Path, str]:
        """Return what the files should hold."""
        ...


def fill_table(page: str, rows: Iterable[tuple[str, object, str]]) -> dict[Path, str]:
    """Say what a page of Markdown should hold with *rows* in its table, by its path.

    Args:
        page: Its path in the checkout.
        rows: Key, default and words.
    """
    path = _REPOSITORY / page
    before, _, rest = path.read_text(encoding="utf-8").partition(_TABLE_HEAD)
    lines = rest.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if not line.startswith("| ")), len(lines))
    table = "".join(f"| `{key}` | {_in_table(default)} | {text} |\n" for key, default, text in rows)
    return {path: before + _TABLE_HEAD + table + "".join(lines[end:])}


def read_words(model: type[Settings]) -> dict[str, str]:
    """Read the texts below the fields of a model."""
    [cls] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(cls, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(cls.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = " ".join(text.split())
                case _:
                    pass
    return found


def write_or_check(reference: HasPages, module: str) -> None:
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
