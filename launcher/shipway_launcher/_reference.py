"""The pages that list all settings, made from the model: `python -m shipway_launcher._reference`.

Writes the table in docs/launcher.md and the example systemd/launcher.yaml of the checkout; with
--check it says whether they are as they should be, and writes nothing.
"""

from __future__ import annotations

from shipway_common._reference import Reference, write_or_check
from shipway_common.settings import Settings, describe_field, section_model, walk_fields
from shipway_launcher.config import LauncherSettings

_OF_THE_MACHINE = {"job_storage_root", "sudo_helper", "agent_command", "pyslurm_python"}


def _portable(settings: type[Settings]) -> Settings:
    """Build the defaults without those that the machine makes, which the words tell."""
    values: dict[str, object] = {}
    for name, field in settings.model_fields.items():
        inner = section_model(field)
        if inner is not None:
            values[name] = _portable(inner)
        elif name in _OF_THE_MACHINE:
            values[name] = None
        else:
            values[name] = field.get_default(call_default_factory=True)
    return settings.model_construct(None, **values)


REFERENCE = Reference(
    page="docs/launcher.md",
    example="systemd/launcher.yaml",
    example_head="""\
# Settings of shipway-launcher, at /etc/shipway/launcher.yaml.
#
# Each key is here with its default; the words say those that depend on the machine.
# `shipway-launcher check` says what is missing, unsafe or mistaken.
""",
    defaults=_portable(LauncherSettings),
    descriptions={key: describe_field(field) for key, field in walk_fields(LauncherSettings)},
)

if __name__ == "__main__":
    write_or_check(REFERENCE, "shipway_launcher._reference")
