"""The table of all keys in docs/experiments.md: `python -m shipway_master.experiments.config._reference`.

With --check it says whether the page is as it should be, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from shipway_common._reference import fill_table, read_words, write_or_check
from shipway_common.settings import Settings
from shipway_master.experiments.config.model import ExperimentConfig
from shipway_master.experiments.config.storage import STORAGES
from shipway_master.tasks.model import EnvironmentVariables, Images

_PAGE = "docs/experiments.md"
_FIRST = (
    *("name", "description", "labels", "workspace", "project", "entrypoint", "hyperparameters"),
    *("searcher", "data", "resources", "environment", "bind_mounts", "checkpoint_storage"),
)
_ELSEWHERE = {"searcher", "hyperparameters"}
"""What has a page of its own, docs/search.md."""
_Row = tuple[str, object, str]


class ExperimentReference:
    """The page."""

    def pages(self) -> dict[Path, str]:
        """Return what it should hold."""
        fields = ExperimentConfig.model_fields
        names = [*_FIRST, *(name for name in fields if name not in _FIRST)]
        return fill_table(_PAGE, (row for name in names for row in _walk_field(name, fields[name])))


def _walk_field(key: str, field: FieldInfo, words: str = "") -> Iterator[_Row]:
    """Give the keys of a field: its own, or those of the section that it is."""
    words = field.description or words
    if key in _ELSEWHERE:
        yield key, None, f"{words} See [searches](search.md)."
    elif key == "name":
        yield key, None, words
    elif key == "checkpoint_storage":
        yield key, None, words
        yield from _walk_storages(key)
    elif (section := _find_section(field.annotation)) is None:
        yield key, _get_default(field), _describe(field, words)
    elif not get_args(field.annotation):
        yield from _walk(section, f"{key}.")
    else:
        yield key, None, words
        is_optional = NoneType in get_args(field.annotation)
        yield from _walk(section, f"{key}." if is_optional else f"{key}[].")


def _walk(section: type[Settings], prefix: str) -> Iterator[_Row]:
    words = read_words(section)
    for name, field in section.model_fields.items():
        yield from _walk_field(prefix + name, field, words.get(name, ""))


def _walk_storages(key: str) -> Iterator[_Row]:
    """Give each key once, with the types that have it."""
    rows: dict[tuple[str, str], list[str]] = {}
    defaults: dict[tuple[str, str], object] = {}
    for kind, model in STORAGES.items():
        for name, field in model.model_fields.items():
            text = "" if name == "type" else _describe(field, field.description or "")
            row = f"{key}.{name}", text
            rows.setdefault(row, []).append(kind)
            defaults[row] = _get_default(field)
    for (name, words), kinds in rows.items():
        if name.endswith(".type"):
            yield name, None, f"Required. One of {', '.join(kinds)}."
        elif len(kinds) == len(STORAGES):
            yield name, defaults[name, words], words
        else:
            yield name, defaults[name, words], f"{', '.join(kinds)}: {words}"


def _find_section(annotation: Any) -> type[Settings] | None:
    """Find the model of a section, of one that may be absent, or of the items of a list."""
    if isinstance(annotation, type):
        is_leaf = annotation in (Images, EnvironmentVariables)
        return annotation if issubclass(annotation, Settings) and not is_leaf else None
    sections = [section for one in get_args(annotation) if (section := _find_section(one))]
    return sections[0] if len(sections) == 1 else None


def _get_default(field: FieldInfo) -> object:
    default: object = field.get_default(call_default_factory=False)
    return None if field.is_required() or isinstance(default, Settings) else default


def _describe(field: FieldInfo, words: str) -> str:
    choices = _list_choices(field.annotation)
    text = f"{words} One of {', '.join(choices)}." if choices else words
    return f"Required. {text}" if field.is_required() else text


def _list_choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(one) for one in get_args(annotation)]
    is_mapping = len(get_args(annotation)) > 1 and NoneType not in get_args(annotation)
    return (
        [] if is_mapping else [one for part in get_args(annotation) for one in _list_choices(part)]
    )


REFERENCE = ExperimentReference()

if __name__ == "__main__":
    write_or_check(REFERENCE, "shipway_master.experiments.config._reference")
