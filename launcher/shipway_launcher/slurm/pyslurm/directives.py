"""Read the options out of a batch script that the launcher wrote."""

from __future__ import annotations

import re

_DIRECTIVE = re.compile(
    r"#SBATCH --(?P<name>[a-z][a-z0-9-]*)"
    r'(?:=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[A-Za-z0-9_./:=@%+,\[\]-]*)))?\s*'
)
_READ_BY_SBATCH = re.compile(r"#\s*(SBATCH|PBS|BSUB)\b")


def parse_directives(script: str) -> dict[str, str | None] | None:
    """Return the options by their long names; of two of a name the last one counts.

    None: there is a line among them that the launcher would not have written like this, so that
    only sbatch can say what it means.
    """
    options: dict[str, str | None] = {}
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        match = _DIRECTIVE.fullmatch(line)
        if match is not None:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            options[match["name"]] = value
        elif _READ_BY_SBATCH.match(line):
            return None
    return options
