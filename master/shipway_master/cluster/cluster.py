"""All resource managers of this master, as one."""

from __future__ import annotations

from collections.abc import Sequence

from shipway_master.cluster.manager import PoolChoice, PoolNotFound, ResourceManager
from shipway_master.tasks.defaults import TaskContainerDefaults, merge_defaults
from shipway_proto.determined.agent.v1.agent_pb2 import Agent
from shipway_proto.determined.resourcepool.v1.resourcepool_pb2 import ResourcePool


class Cluster:
    """The managers in the order of the settings; where two have a pool of one name, the first wins.

    The default pools are those of the first manager that has any.
    """

    def __init__(
        self, managers: Sequence[ResourceManager], defaults: TaskContainerDefaults
    ) -> None:
        self._managers = list(managers)
        self._defaults = defaults

    def choose_pool(self, pool: str, *, slots: int) -> PoolChoice:
        """Find the pool for a task; an empty name stands for the default one.

        Raises:
            PoolNotFound: There is none; the text says which there are.
        """
        name = pool or self._find_default(slots)
        for manager in self._managers:
            if name and manager.has_pool(name):
                return PoolChoice(pool=name, manager=manager)
        known = "; ".join(manager.explain_pools() for manager in self._managers)
        if not name:
            raise PoolNotFound(f"there is no default resource pool ({known})")
        raise PoolNotFound(f"resource pool not found: {name} ({known})")

    def find_manager(self, name: str) -> ResourceManager | None:
        """The manager of that name; None when the settings do not have it any more."""
        return next((manager for manager in self._managers if manager.name == name), None)

    def get_defaults(self, choice: PoolChoice) -> TaskContainerDefaults:
        """What tasks in a pool get that do not say otherwise."""
        return merge_defaults(self._defaults, choice.manager.get_defaults(choice.pool))

    def list_pools(self) -> list[ResourcePool]:
        """Describe all pools, each name once, exactly one of each kind being the default."""
        pools: dict[str, ResourcePool] = {}
        for manager in self._managers:
            for pool in manager.list_pools():
                pools.setdefault(pool.name, pool)
        compute, aux = self._find_default(1), self._find_default(0)
        for pool in pools.values():
            pool.default_compute_pool = pool.name == compute
            pool.default_aux_pool = pool.name == aux
        return list(pools.values())

    def list_agents(self) -> list[Agent]:
        """Describe all agents and nodes."""
        return [agent for manager in self._managers for agent in manager.list_agents()]

    def _find_default(self, slots: int) -> str:
        for manager in self._managers:
            compute, aux = manager.default_pools
            name = compute if slots else aux
            if name:
                return name
        return ""
