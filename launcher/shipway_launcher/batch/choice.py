"""Choose all options of a job: the user's as far as they stay, and the launcher's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.batch.resources import lay_out
from shipway_launcher.batch.useroptions import Option, parse_user_options
from shipway_launcher.dispatches import files
from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Manifest
from shipway_launcher.slurm.hostlist import expand_nodes
from shipway_launcher.slurm.rows import ClusterRows
from shipway_launcher.slurm.version import SlurmVersion

_HOST_FOLDER = "/var/tmp"  # noqa: S108 (every host has it)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The options of one job."""

    site: Sequence[Option]
    user: Sequence[Option]
    """They stand behind the site's, so they win."""
    own: Sequence[Option]
    """They stand behind the user's, so they win."""
    notes: Sequence[str]
    """What the user should know about them."""


def choose_options(
    manifest: Manifest,
    *,
    job_name: str,
    dispatch_id: str,
    folder: str,
    version: SlurmVersion | None,
    cluster: ClusterRows | None,
    pass_wckey: bool,
    site_options: Sequence[str] = (),
    signal: str | None = None,
) -> Chosen:
    """Put together what the user asked for and what the launcher needs.

    Args:
        manifest: What to run.
        job_name: The Slurm job's name.
        dispatch_id: Goes into the job's comment, behind the user's own.
        folder: Where the job's output goes.
        version: Slurm's release as far as it is known.
        cluster: Its partitions and nodes as far as they are known.
        pass_wckey: Whether Slurm gets the master's --wckey.
        site_options: What the site's settings add.
        signal: What the job is sent before its time limit, as sbatch reads it, if no other
            option says so.

    Raises:
        WrongRequest: An option is not allowed, or the resources make no sense.
    """
    of_site = parse_user_options(site_options)
    of_user = parse_user_options(manifest.slurm_arguments)
    given = [*of_site, *of_user]
    if signal is not None and not any(option.name == "signal" for option in given):
        of_site.append(Option(name="signal", value=signal))
    partition = manifest.configuration.get("queue", "")
    layout = lay_out(
        manifest.resources,
        gpu_type=plain_name("gpuType", manifest.configuration.get("gpuType", "")),
        version=version,
        max_nodes=_max_nodes(cluster, partition),
    )
    own = {
        "job-name": job_name,
        "comment": " ".join([*_values(given, "comment")[-1:], comment_tag(dispatch_id)]),
        **dict(layout.options),
        "chdir": job_start_folder(manifest.configuration.get("workingDir", "")),
        "output": f"{folder}/{files.OUTPUT_LOG}",
        "error": f"{folder}/{files.ERROR_LOG}",
    }
    if partition:
        own["partition"] = plain_name("queue", partition)
    if excluded := _merge_excluded(_values(given, "exclude"), cluster):
        own["exclude"] = ",".join(excluded)
    if others := _other_gres(_values(given, "gres")):
        own["gres"] = ",".join([*others, *([own["gres"]] if "gres" in own else [])])
    if not any(option.name == "propagate" for option in given):
        own["propagate"] = "NONE"  # the limits of this service are not meant for jobs
    dropped = {"comment", "exclude", "gres", *([] if pass_wckey else ["wckey"])}
    options = [Option(name=name, value=value) for name, value in own.items()]
    flags = [Option(name="no-requeue"), Option(name="open-mode", value="append")]
    return Chosen(
        site=[option for option in of_site if option.name not in dropped],
        user=[option for option in of_user if option.name not in dropped],
        own=[*options, *flags],
        notes=layout.notes,
    )


def comment_tag(dispatch_id: str) -> str:
    """Return the word in a job's comment by which it is known again."""
    return f"shipway:{dispatch_id}"


def _values(options: Sequence[Option], name: str) -> list[str]:
    return [option.value for option in options if option.name == name and option.value]


def _other_gres(texts: Sequence[str]) -> list[str]:
    """Return what was asked for beside GPUs, which the job's resources say."""
    items = [item.strip() for text in texts for item in text.split(",") if item.strip()]
    for item in items:
        name = item.removeprefix("gres:").removeprefix("gres/").partition(":")[0].partition("=")[0]
        if name.strip() == "gpu":
            raise WrongRequest(
                "unable to launch job: slurm option --gres may not be used to configure GPU resources"
            )
    return list(dict.fromkeys(items))


def plain_name(key: str, text: str) -> str:
    """Return the value of a key of the manifest's configuration if it can name a queue or a type.

    Raises:
        WrongRequest: It cannot.
    """
    if text and not re.fullmatch(r"[A-Za-z0-9_.+-][A-Za-z0-9_.,+-]*", text):
        raise WrongRequest(f"configuration.{key}: {text[:80]!r} is no name")
    return text


def job_start_folder(path: str) -> str:
    """Choose where the batch script starts: what is below /run/determined is in containers only.

    Raises:
        WrongRequest: The path is not absolute.
    """
    path = path or _HOST_FOLDER
    if not path.startswith("/") or not path.isprintable():
        raise WrongRequest(f"configuration.workingDir: {path[:80]!r} is no absolute path")
    return _HOST_FOLDER if path.startswith("/run/determined/") else path


def _max_nodes(cluster: ClusterRows | None, partition: str) -> int | None:
    for row in cluster.partitions if cluster else ():
        if row.name == partition:
            limits = [row.max_nodes, row.total_nodes or None]
            return min((limit for limit in limits if limit), default=None)
    return None


def _merge_excluded(texts: Sequence[str], cluster: ClusterRows | None) -> list[str]:
    """Merge all lists; a name that Slurm does not know would make it refuse the whole job."""
    names: dict[str, None] = {}
    for text in texts:
        try:
            names |= dict.fromkeys(expand_nodes(text))
        except ValueError as error:
            raise WrongRequest(f"slurm option --exclude: {error}") from error
    known = {node.name for node in cluster.nodes} if cluster else set(names)
    return [name for name in names if name in known]
