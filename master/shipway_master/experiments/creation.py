"""From a user's request to an experiment that can be stored and begun."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shipway_master.allocations.ids import JobId, TaskId
from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.manager import PoolNotFound, Unfulfillable
from shipway_master.experiments.config import (
    BadExperimentConfig,
    Draft,
    ExperimentConfig,
    Site,
    load_experiment_config,
    read_experiment,
)
from shipway_master.experiments.errors import BadExperiment
from shipway_master.experiments.records import ExperimentFiles, ExperimentRecord, TrialRecord
from shipway_master.experiments.states import RunState
from shipway_master.experiments.trialtask import make_task
from shipway_master.searchers.errors import BadSearch
from shipway_master.searchers.searcher import Searcher
from shipway_master.tasks.creation import make_request
from shipway_master.tasks.errors import BadTask
from shipway_master.tasks.files import BadFile, TaskFile, check_files, pack
from shipway_master.tasks.ssh import make_key_pair
from shipway_master.tasks.workspaces import Terms

MAX_FILES_BYTES = 95 * 2**20
"""Of a model definition; what the stock client sends at most."""

_STARTUP_HOOK = "startup-hook.sh"
_EXAMPLE = TrialRecord(
    experiment_id=0,
    request_id=None,
    hparams={},
    seed=0,
    started_at=datetime.now(UTC),
    state=RunState.ACTIVE,
    task_ids=[TaskId("0.0")],
)
"""Asked for in place of a trial that there is not yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to have searched, and where."""

    owner_id: int
    project_id: int
    terms: Terms
    """Of the project's workspace."""
    text: str = field(repr=False)
    """The configuration as the user sent it."""
    draft: Draft = field(repr=False)
    """What it says, with the template that he named."""
    files: Sequence[TaskFile] = field(default=(), repr=False)
    parent_id: int | None = None
    parent_tgz: bytes = field(default=b"", repr=False)
    """The code of the experiment that this is a fork of; counts where no files are sent."""
    unmanaged: bool = False
    external_id: str | None = None
    storages: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """`checkpoint_storage` of the workspace and of the master, as far as they have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An experiment that could be begun."""

    record: ExperimentRecord
    config: ExperimentConfig = field(repr=False)
    files: ExperimentFiles = field(repr=False)
    has_room: bool
    """False when the pool is too small at the moment, but may grow."""
    source_checkpoint: str | None = None
    """UUID of the checkpoint that all its trials begin with."""


def draft_experiment(text: str, template: Mapping[str, Any] | None) -> Draft:
    """Read what a user sent; blocking.

    Raises:
        BadExperiment: Something in it cannot be; the text names all of that.
    """
    try:
        return read_experiment(text, template=template)
    except BadExperimentConfig as error:
        raise BadExperiment(str(error)) from error


def plan_experiment(wish: Wish, cluster: Cluster) -> Plan:
    """Check a wish against the cluster as it is; blocking.

    Raises:
        BadExperiment: It cannot become an experiment; the text names what is wrong.
    """
    try:
        return _plan(wish, cluster)
    except (
        BadExperimentConfig,
        BadSearch,
        BadFile,
        BadTask,
        PoolNotFound,
        Unfulfillable,
    ) as error:
        raise BadExperiment(str(error)) from error


def _plan(wish: Wish, cluster: Cluster) -> Plan:
    check_files(wish.files)
    if sum(len(file.content) for file in wish.files) > MAX_FILES_BYTES:
        raise BadFile(f"the model definition is larger than {MAX_FILES_BYTES >> 20} MiB")
    draft = wish.draft
    pool = wish.terms.choose_pool(draft.resource_pool, slots=draft.slots_per_trial)
    choice = cluster.choose_pool(pool, slots=draft.slots_per_trial)
    wish.terms.require_pool(choice.pool)
    priority = choice.manager.get_default_priority(choice.pool)
    config = draft.complete(
        Site(
            seed=secrets.randbelow(2**31),
            defaults=cluster.get_defaults(choice),
            storages=wish.storages,
            priority=priority,
            is_managed=not wish.unmanaged,
        )
    )
    plain = config.to_plain(reveal=True)
    plain["resources"]["resource_pool"] = choice.pool
    record = ExperimentRecord(
        job_id=JobId(str(uuid4())),
        owner_id=wish.owner_id,
        project_id=wish.project_id,
        workspace_id=wish.terms.workspace_id,
        unmanaged=wish.unmanaged,
        external_id=wish.external_id,
        parent_id=wish.parent_id,
        seed=plain["reproducibility"]["experiment_seed"],
        slots_per_trial=draft.slots_per_trial,
        original_config=wish.text,
        started_at=datetime.now(UTC),
        state=RunState.PAUSED,
        config=plain,
        name=config.name,
        description=config.description or "",
        labels=list(config.labels),
        log_retention_days=config.retention_policy.log_retention_days,
        pool=choice.pool,
        manager=choice.manager.name,
        priority=config.resources.priority or priority,
    )
    has_room = True
    if not wish.unmanaged:
        plan_searcher(record)
        has_room = choice.manager.check(make_request(make_task(record, _EXAMPLE), run=1))
    keys = make_key_pair()
    return Plan(
        record=record,
        config=config,
        files=ExperimentFiles(
            tgz=pack(wish.files) if wish.files else wish.parent_tgz,
            private_key=keys.private,
            public_key=keys.public,
        ),
        has_room=has_room,
    )


def plan_searcher(record: ExperimentRecord) -> Searcher | None:
    """Make the searcher of an experiment, as it was left; None for one without.

    Raises:
        BadSearch: The configuration's parts do not fit each other.
    """
    if record.unmanaged or record.is_continued:
        return None
    config = load_experiment_config(record.config)
    if record.search is None:
        return Searcher(config.searcher, config.hyperparameters, record.seed)
    return Searcher.restored(config.searcher, config.hyperparameters, record.search)


def has_startup_hook(tgz: bytes) -> bool:
    """Say whether a model definition has a script that runs before the training; blocking."""
    if not tgz:
        return False
    with tarfile.open(fileobj=io.BytesIO(tgz), mode="r:gz") as tar:
        return any(name.removeprefix("./") == _STARTUP_HOOK for name in tar.getnames())
