"""From what a job needs to the options of sbatch that ask for it."""

from __future__ import annotations

from dataclasses import dataclass

from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Resources
from shipway_launcher.slurm.version import SlurmVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Options in their order, and what the user should know about them."""

    options: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def lay_out(
    resources: Resources,
    *,
    gpu_type: str = "",
    version: SlurmVersion | None = None,
    max_nodes: int | None = None,
) -> Layout:
    """Choose the options; srun starts one task on each node whatever they are.

    Args:
        resources: What the manifest asks for.
        gpu_type: Type of GPU that the user wants; empty for any.
        version: Slurm's release as far as it is known.
        max_nodes: Most nodes that the partition gives to one job, as far as it is known.

    Raises:
        WrongRequest: The combination makes no sense.
    """
    kind = f"{gpu_type}:" if gpu_type else ""
    if resources.nodes is not None:
        return _on_fixed_nodes(resources, resources.nodes, kind)
    if resources.per_node != 1 or resources.gpus_total is None:
        raise WrongRequest(
            "resourceRequirements: needs instances.nodes, or instances.per-node: 1 with gpus.total"
        )
    return _on_any_nodes(resources, resources.gpus_total, kind, version, max_nodes)


def _on_fixed_nodes(resources: Resources, nodes: int, kind: str) -> Layout:
    options = [("nodes", str(nodes)), ("ntasks", str(nodes))]
    if resources.gpus_total is not None:
        options.append(("gpus", f"{kind}{resources.gpus_total}"))
    elif resources.gpus_per_node is not None:
        options.append(("gres", f"gpu:{kind}{resources.gpus_per_node}"))
    elif resources.cores_per_instance is not None:
        options.append(("cpus-per-task", str(resources.cores_per_instance)))
    return Layout(options=tuple(options))


def _on_any_nodes(
    resources: Resources,
    total: int,
    kind: str,
    version: SlurmVersion | None,
    max_nodes: int | None,
) -> Layout:
    notes: list[str] = []
    each = resources.gpus_per_instance
    if each is not None and total % each:
        wanted, total = total, -(-total // each) * each
        notes.append(
            f"{wanted} GPUs cannot be shared out in parts of {each} (slots_per_node); {total} were"
            " asked for instead"
        )
    most = total if max_nodes is None else max(1, min(total, max_nodes))
    options = [("gpus", f"{kind}{total}"), ("nodes", f"1-{most}")]
    if each is not None:
        options += [("ntasks-per-node", "1"), ("gpus-per-task", f"{kind}{each}")]
    elif version is None or not version.has_bug_15857:
        options.append(("ntasks-per-node", "1"))
    # Slurm 22.05.5 to 22.05.8 refuse the last option here (bug 15857). Without it the job gets the
    # same nodes, and srun sets the tasks anyway.
    return Layout(options=tuple(options), notes=tuple(notes))
