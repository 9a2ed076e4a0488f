"""From a manifest to all files of its job, so that they can be shown without writing them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shipway_launcher.batch.choice import choose_options
from shipway_launcher.batch.script import BatchJob, render_script
from shipway_launcher.batch.settings import BatchSettings
from shipway_launcher.batch.sitelines import render_site_lines
from shipway_launcher.batch.warning import find_warning
from shipway_launcher.carriers.table import Carrier, Manager
from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.archives import read_archives
from shipway_launcher.dispatches.taskfile import TASK_FILE, render_task_file
from shipway_launcher.environment import RelayTrust, point_to_relay, restore_cut_values
from shipway_launcher.errors import StorageError, WrongRequest
from shipway_launcher.manifest import Manifest
from shipway_launcher.pbs.job import choose_job_name, write_pbs_script
from shipway_launcher.pbs.settings import PbsSettings
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.slurm.rows import ClusterRows
from shipway_launcher.transport.tree import Entry, Kind

_SRUN_VARIABLES = frozenset(
    {
        *(
            "SLURM_ACCTG_FREQ",
            "SLURM_BCAST",
            "SLURM_COMPRESS",
            "SLURM_CPU_BIND",
            "SLURM_CPU_FREQ_REQ",
        ),
        *("SLURM_DISTRIBUTION", "SLURM_HINT", "SLURM_MEM_BIND", "SLURM_MPI_TYPE", "SLURM_NETWORK"),
        *("SLURM_PROFILE", "SLURM_RESV_PORTS", "SLURM_THREADS", "SLURM_UNBUFFEREDIO", "SLURM_WAIT"),
    }
)
"""Variables that steer srun; other ones reach only the task."""

_RELAY_TRUST = "run/determined/relay.crt"
"""Where in its container a task finds the certificates by which it verifies the relay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What preparing a job needs to know beside its manifest."""

    root: Path
    agent_command: Sequence[str]
    image_root: Path | None
    pass_wckey: bool
    batch: BatchSettings
    archives_limit_bytes: int
    relay_url: str | None
    facts: SlurmFacts
    cluster: ClusterRows | None
    pbs: PbsSettings = field(default_factory=lambda: PbsSettings.model_validate({}))
    relay_trust_file: Path | None = None
    """Certificates by which jobs verify the relay, on this machine."""
    relay_certificate_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job, ready to be written and submitted."""

    job_name: str
    script: str
    entries: Sequence[Entry]
    notes: Sequence[str]
    warning_s: int | None
    """How long before its time limit the job is warned, as far as that is known."""


def prepare(
    manifest: Manifest, carrier: Carrier, site: Site, *, dispatch_id: str, owner: str
) -> Prepared:
    """Make script, task file and tree.

    Raises:
        WrongRequest: The manifest asks for what cannot be, or must not.
        TooLarge: Its archives are.
        StorageError: What jobs are to trust the relay by cannot be read.
    """
    if carrier.runtime is None:
        raise WrongRequest(f"carrier {carrier.class_name} runs no job")
    folder = files.job_folder(site.root, owner, dispatch_id)
    tree = read_archives(manifest.archives, limit_bytes=site.archives_limit_bytes)
    lines = _site_lines(manifest, carrier.runtime, dispatch_id, owner, str(folder))
    make = _make_pbs_script if carrier.manager is Manager.PBS else _make_slurm_script
    made = make(manifest, site, lines)
    trust: RelayTrust | None = None
    if manifest.has_master:
        tree, trust = _add_relay_trust(tree, site)
    environment = _task_environment(manifest, site.relay_url, trust)
    task = render_task_file(
        manifest,
        dispatch_id=dispatch_id,
        runtime=carrier.runtime,
        image=_choose_image(manifest, carrier.runtime),
        image_root=str(site.image_root) if site.image_root else None,
        environment=environment,
        archives_dir=f"{folder}/{files.VOLUME}" if tree else None,
        master_url=environment.get("DET_MASTER"),
        private_run_dir=not any(
            entry.path.partition("/")[0] == "determined_local_fs" for entry in tree
        ),
        warning_s=made.warning_s,
        keeps_usr1=made.keeps_usr1,
    )
    entries = [
        Entry(path=files.SCRIPT, kind=Kind.FILE, mode=0o700, content=_encode(made.script)),
        Entry(path=TASK_FILE, kind=Kind.FILE, mode=0o600, content=task),
        *_below_volume(tree),
    ]
    return Prepared(
        job_name=made.job_name,
        script=made.script,
        entries=entries,
        notes=made.notes,
        warning_s=made.warning_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A batch script."""

    job_name: str
    script: str
    notes: Sequence[str]
    warning_s: int | None = None
    """How long before its time limit Slurm warns the job, as far as that is known."""
    keeps_usr1: bool = False
    """Whether the user chose SIGUSR1 for that."""


def _make_slurm_script(manifest: Manifest, site: Site, lines: Mapping[str, str]) -> _Made:
    job_name = f"det-{files.safe_name(manifest.payload)}-{lines['dispatch_id']}"
    options = choose_options(
        manifest,
        job_name=job_name,
        dispatch_id=lines["dispatch_id"],
        folder=lines["folder"],
        version=site.facts.version,
        cluster=site.cluster,
        pass_wckey=site.pass_wckey,
        site_options=site.batch.options,
        signal=site.batch.signal_option,
    )
    before, after = _render_site_lines(site.batch, {**lines, "job_name": job_name})
    script = render_script(
        BatchJob(
            dispatch_id=lines["dispatch_id"],
            owner=lines["owner"],
            folder=lines["folder"],
            site_options=options.site,
            user_options=options.user,
            own_options=options.own,
            notes=options.notes,
            agent_command=site.agent_command,
            mpi=_choose_mpi(manifest, site.facts),
            srun_variables=[
                (name, value)
                for name, value in sorted(manifest.environment.items())
                if name in _SRUN_VARIABLES - {"SLURM_MPI_TYPE"} and value.isprintable()
            ],
            needs_equal_gpus=_needs_equal_gpus(manifest),
            before=before,
            after=after,
        )
    )
    warning = find_warning([*options.site, *options.user])
    by_user = find_warning(options.user)
    return _Made(
        job_name=job_name,
        script=script,
        notes=options.notes,
        warning_s=warning.lead_s if warning is not None else None,
        keeps_usr1=by_user is not None and by_user.is_usr1 and not _is_asked_to_leave(manifest),
    )


def _is_asked_to_leave(manifest: Manifest) -> bool:
    """Say whether the master asks the task to save its work, which is then not for signals to do."""
    return manifest.environment.get("DET_TASK_TYPE") in ("TRIAL", "GENERIC")


def _make_pbs_script(manifest: Manifest, site: Site, lines: Mapping[str, str]) -> _Made:
    job_name = choose_job_name(manifest.payload, lines["dispatch_id"])
    before, after = _render_site_lines(site.batch, {**lines, "job_name": job_name})
    written = write_pbs_script(
        manifest,
        site.pbs,
        job_name=job_name,
        dispatch_id=lines["dispatch_id"],
        owner=lines["owner"],
        folder=lines["folder"],
        agent_command=site.agent_command,
        needs_equal_gpus=_needs_equal_gpus(manifest),
        before=before,
        after=after,
    )
    return _Made(job_name=job_name, script=written.script, notes=written.notes)


def _render_site_lines(batch: BatchSettings, lines: Mapping[str, str]) -> tuple[str, str]:
    return (
        render_site_lines("batch.before", batch.before, lines),
        render_site_lines("batch.after", batch.after, lines),
    )


def _site_lines(
    manifest: Manifest, runtime: str, dispatch_id: str, owner: str, folder: str
) -> dict[str, str]:
    """Say what a site's lines can use, beside the job's name; see `SITE_NAMES`."""
    environment = manifest.environment
    return {
        "dispatch_id": dispatch_id,
        "owner": owner,
        "payload": manifest.payload,
        "partition": manifest.configuration.get("queue", ""),
        "folder": folder,
        "task_id": environment.get("DET_TASK_ID", ""),
        "allocation_id": environment.get("DET_ALLOCATION_ID", ""),
        "task_type": environment.get("DET_TASK_TYPE", ""),
        "slot_type": environment.get("DET_SLOT_TYPE", ""),
        "runtime": runtime,
        "image": manifest.image or "",
    }


def _needs_equal_gpus(manifest: Manifest) -> bool:
    """Say whether the task is a trial whose GPUs may be shared out unequally."""
    resources = manifest.resources
    is_free = resources.per_node is not None and resources.gpus_per_instance is None
    total = resources.gpus_total or 0
    return is_free and total > 1 and manifest.environment.get("DET_TASK_TYPE") == "TRIAL"


def _choose_mpi(manifest: Manifest, facts: SlurmFacts) -> str:
    """Take what the manifest says if this Slurm has it; srun fails for a plugin it lacks."""
    wanted = manifest.environment.get("SLURM_MPI_TYPE", "")
    plugin = re.sub(r"^pmix_v\d+$", "pmix", wanted)
    return wanted if plugin in facts.mpi_plugins else "none"


def _choose_image(manifest: Manifest, runtime: str) -> str | None:
    if runtime == "sandbox":
        return None
    if manifest.image is None:
        raise WrongRequest("launchParameters.images.default: the carrier needs an image")
    return manifest.image


def _add_relay_trust(tree: list[Entry], site: Site) -> tuple[list[Entry], RelayTrust | None]:
    """Give the job the certificates by which it verifies the relay."""
    if site.relay_url is None:
        return tree, None
    if site.relay_trust_file is None:
        return tree, RelayTrust(file=None, certificate_name=site.relay_certificate_name)
    try:
        content = site.relay_trust_file.read_bytes()
    except OSError as error:
        raise StorageError(f"relay.listen_tls.trust_file: {error}") from error
    present = {entry.path for entry in tree}
    folders = [
        Entry(path=path, kind=Kind.FOLDER, mode=0o755)
        for path in ("run", "run/determined")
        if path not in present
    ]
    file = Entry(path=_RELAY_TRUST, kind=Kind.FILE, mode=0o644, content=content)
    trust = RelayTrust(file=f"/{_RELAY_TRUST}", certificate_name=site.relay_certificate_name)
    return [*tree, *folders, file], trust


def _task_environment(
    manifest: Manifest, relay_url: str | None, trust: RelayTrust | None
) -> dict[str, str]:
    if not manifest.has_master:
        return dict(manifest.environment)
    for name in ("DET_MASTER", "DET_SESSION_TOKEN"):
        if not manifest.environment.get(name):
            raise WrongRequest(f"launchParameters.environment.{name}: the job cannot do without")
    if not manifest.environment["DET_MASTER"].startswith(("http://", "https://")):
        raise WrongRequest("launchParameters.environment.DET_MASTER: no URL of a master")
    environment = restore_cut_values(manifest.environment)
    targets = [posixpath.normpath(mount.target) for mount in manifest.mounts]
    if any(target.startswith("/tmp/") for target in targets):  # noqa: S108
        # The stock wrapper would move what is mounted there into a folder that is thrown away.
        environment.pop("DET_CONTAINER_LOCAL_TMP", None)
    return point_to_relay(environment, relay_url, trust) if relay_url else environment


def _below_volume(tree: Sequence[Entry]) -> list[Entry]:
    if not tree:
        return []
    top = Entry(path=files.VOLUME, kind=Kind.FOLDER, mode=0o700)
    moved = [
        Entry(
            path=f"{files.VOLUME}/{entry.path}",
            kind=entry.kind,
            mode=entry.mode,
            content=entry.content,
        )
        for entry in tree
    ]
    return [top, *moved]


def _encode(script: str) -> bytes:
    return script.encode("utf-8", "surrogateescape")
