"""The template of a batch script, in which every value is written for the shell or the directives."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib import resources
from typing import TypeVar

import jinja2

Option = TypeVar("Option")


def load_template(package: str, render_directive: Callable[[Option], str]) -> jinja2.Template:
    """Read `script.sh.j2` of a package.

    Args:
        package: Its full name.
        render_directive: Writes an option as the workload manager reads it in a script.
    """
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 (no HTML; every value goes through `sh` or `directive`)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = shlex.quote
    environment.filters["words"] = shlex.join
    environment.filters["directive"] = render_directive
    return environment.from_string(resources.files(package).joinpath("script.sh.j2").read_text())
