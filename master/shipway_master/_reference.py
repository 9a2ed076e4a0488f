"""The pages that list all settings, made from the model: `python -m shipway_master._reference`.

Writes the table in docs/master.md and the example systemd/master.yaml of the checkout; with --check
it says whether they are as they should be, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from shipway_common._reference import Reference, read_words, write_or_check
from shipway_common.settings import Settings, describe_field
from shipway_master.config import MasterConfig


def _walk(settings: Settings, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give each key with its words; a section of several kinds is the one that it is here."""
    words = read_words(type(settings))
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _walk(value, f"{prefix}{name}.")
        else:
            yield prefix + name, (words.get(name, "") + describe_field(field)).strip()


_DEFAULTS = MasterConfig().model_copy(update={"data": "~/.local/share/shipway-master"})

REFERENCE = Reference(
    page="docs/master.md",
    example="systemd/master.yaml",
    example_head="""\
# Settings of shipway-master, at /etc/shipway/master.yaml; the keys are those of Determined's
# master.yaml where it has them.
#
# Each key is here with its default. Those of a resource manager of type slurm, and of pools, are in
# docs/master.md. `shipway-master check` says what is missing, unsafe or mistaken.
""",
    defaults=_DEFAULTS,
    descriptions=dict(_walk(_DEFAULTS)),
)

if __name__ == "__main__":
    write_or_check(REFERENCE, "shipway_master._reference")
