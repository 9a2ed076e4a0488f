"""The policies that hold for one workload, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shipway_master.experiments.config import Draft
from shipway_master.experiments.config.draft import read_part
from shipway_master.experiments.config.merge import merge_parts
from shipway_master.experiments.errors import BadExperiment
from shipway_master.policies.model import Constraints, Policy
from shipway_master.tasks.errors import BadTask
from shipway_master.tasks.merge import merge_configs


@dataclass(frozen=True, slots=True)
class Rules:
    """What a workspace's and the cluster's policies demand; the cluster's has the last word."""

    policies: Sequence[Policy] = field(default=(), repr=False)
    """The stronger one comes last."""

    @property
    def constraints(self) -> Constraints:
        """The limits."""
        merged: Mapping[str, Any] = {}
        for policy in self.policies:
            merged = merge_configs(merged, policy.constraints)
        return Constraints.model_validate(merged)

    def govern_task(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Put what is fixed over the configuration of a task."""
        governed = dict(config)
        for policy in self.policies:
            governed = merge_configs(governed, policy.invariant_config)
        return governed

    def check_task(self, *, slots: int, priority: int | None) -> None:
        """Refuse a task beyond the limits.

        Raises:
            BadTask: It is.
        """
        problem = self.find_excess(slots=slots, priority=priority)
        if problem is not None:
            raise BadTask(problem)

    def govern_experiment(self, draft: Draft) -> Draft:
        """Put what is fixed over the configuration of an experiment, and limit its slots; blocking.

        Raises:
            BadExperiment: It asks for more than it may have.
        """
        draft = self.fix_experiment(draft)
        part = draft.part
        max_slots = self.constraints.resources.max_slots
        resources = part.resources
        problem = self.find_excess(
            slots=max(resources.slots_per_trial, resources.max_slots or 0),
            priority=resources.priority,
        )
        if problem is not None:
            raise BadExperiment(problem)
        if max_slots is not None and resources.max_slots is None:
            limit = read_part({"resources": {"max_slots": max_slots}}, [], source="")
            part = merge_parts(part, limit)
        return Draft(part, draft.layers)

    def fix_experiment(self, draft: Draft) -> Draft:
        """Put what is fixed over the configuration of an experiment; blocking."""
        part, layers = draft.part, dict(draft.layers)
        for policy in self.policies:
            fixed = read_part(policy.invariant_config, [], source="")
            part = merge_parts(fixed, part)
            layers = {"policy": policy.invariant_config, **layers}
        return Draft(part, layers)

    def find_excess(self, *, slots: int, priority: int | None) -> str | None:
        """Say what is beyond the limits; None if nothing is."""
        limits = self.constraints
        max_slots = limits.resources.max_slots
        if max_slots is not None and slots > max_slots:
            return f"{slots} slots are more than the {max_slots} that a policy allows"
        highest = limits.priority_limit
        if highest is not None and priority is not None and priority < highest:
            return f"priority {priority} is higher than {highest}, the highest that a policy allows"
        return None
