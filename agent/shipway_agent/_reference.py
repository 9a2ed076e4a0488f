"""The pages that list all settings, made from the model: `python -m shipway_agent._reference`.

Writes the table in docs/agent.md and the example systemd/agent.yaml of the checkout; with --check
it says whether they are as they should be, and writes nothing.
"""

from __future__ import annotations

from shipway_agent.config import AgentSettings, list_options
from shipway_common._reference import Reference, write_or_check

REFERENCE = Reference(
    page="docs/agent.md",
    example="systemd/agent.yaml",
    example_head="""\
# Settings of shipway-agent, at /etc/determined/agent.yaml.
#
# Each key is here with its default. What is set in the environment (/etc/default/shipway-agent)
# wins over this file; `shipway-agent check` says what is missing, unsafe or mistaken.
""",
    defaults=AgentSettings(),
    descriptions={option.key: option.description for option in list_options()},
)

if __name__ == "__main__":
    write_or_check(REFERENCE, "shipway_agent._reference")
