"""Labels that tell whose a container is, for whoever finds it later."""

from __future__ import annotations

from collections.abc import Mapping

from shipway_agent.master.messages import Container, MasterOptions
from shipway_agent.runtimes.spec import ID_LABEL, LABEL_PREFIX

_AGENT = LABEL_PREFIX + "agent"
_CLUSTER = LABEL_PREFIX + "cluster"
_DEVICES = LABEL_PREFIX + "devices"
_DESCRIPTION = LABEL_PREFIX + "description"


def make_labels(container: Container, options: MasterOptions, agent_id: str) -> dict[str, str]:
    """Label a container as the original agent does."""
    return {
        LABEL_PREFIX + "type": "task-container",
        LABEL_PREFIX + "version": "0",
        _AGENT: agent_id,
        _CLUSTER: options.cluster_id,
        LABEL_PREFIX + "master": options.master_id,
        ID_LABEL: container.id,
        _DESCRIPTION: container.description,
        _DEVICES: ",".join(str(device.id) for device in container.devices or ()),
    }


def owner_filter(agent_id: str) -> dict[str, str]:
    """Return the labels that all containers of an agent carry, of whatever cluster."""
    return {_AGENT: agent_id}


def cluster_of(labels: Mapping[str, str]) -> str:
    """Return the cluster that a container belongs to; empty if it is not said."""
    return labels.get(_CLUSTER, "")


def description_of(labels: Mapping[str, str]) -> str:
    """Return what the master called the container."""
    return labels.get(_DESCRIPTION, "")


def device_ids_of(labels: Mapping[str, str]) -> list[int]:
    """Return the ids of the devices a container holds; ones that are no numbers are left out."""
    parts = labels.get(_DEVICES, "").split(",")
    return [int(part) for part in parts if part.isascii() and part.isdigit()]
