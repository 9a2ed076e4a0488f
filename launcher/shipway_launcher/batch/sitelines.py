"""The lines that a site has in each batch script, from their template.

Names come from users and may hold anything, so all that a template writes is quoted for the shell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from shipway_launcher.errors import WrongRequest

SITE_NAMES = (
    *("dispatch_id", "owner", "job_name", "payload", "partition", "folder"),
    *("task_id", "allocation_id", "task_type", "slot_type", "runtime", "image"),
)
"""What a template can use; all are texts, empty where the manifest does not say."""


def render_site_lines(key: str, template: str, values: Mapping[str, str]) -> str:
    """Fill in a template of the settings.

    Args:
        key: Name of the setting, for errors.
        template: Its text.
        values: A text for each of `SITE_NAMES`.

    Raises:
        WrongRequest: It does not fit this manifest.
    """
    try:
        return _compile(template).render(values).strip("\n")
    except jinja2.TemplateError as error:
        raise WrongRequest(f"{key} in the launcher's settings: {error}") from error


def check_site_lines(template: str) -> None:
    """Find what is wrong with a template before any job needs it.

    Raises:
        ValueError: Says what, and in which line.
    """
    if re.search(r"[\x00\r]", template):
        raise ValueError("must hold no zero byte and no carriage return: sbatch refuses them")
    if re.search(r"^#SBATCH\b", template, re.MULTILINE):
        raise ValueError("sbatch reads no #SBATCH here any more; set batch.options instead")
    if re.search(r"^#PBS\b", template, re.MULTILINE):
        raise ValueError("qsub reads no #PBS here any more; set pbs.options instead")
    try:
        _compile(template).render(dict.fromkeys(SITE_NAMES, "x"))
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from error
    except jinja2.TemplateError as error:
        known = ", ".join(SITE_NAMES)
        raise ValueError(f"{error}; known names are {known}") from error


def _compile(template: str) -> jinja2.Template:
    environment = SandboxedEnvironment(
        autoescape=False,  # no HTML; `_quote` writes for the shell
        undefined=jinja2.StrictUndefined,
        finalize=_quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(template)


def _quote(value: object) -> str:
    return shlex.quote(str(value))
