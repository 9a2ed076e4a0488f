"""From a run of a task to what its containers are started with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from shipway_master.allocations.surroundings import Run
from shipway_master.auth import Authenticator
from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.manager import PoolChoice
from shipway_master.tasks.caretaker import Caretaker
from shipway_master.tasks.launch import AgentUser, Launch, Tcd
from shipway_master.tasks.notebook import equip_notebook
from shipway_master.tasks.owners import Owners
from shipway_master.tasks.records import TaskRecord, TaskRecords, unpack_files
from shipway_master.tasks.service import Equipment
from shipway_master.tasks.shell import equip_shell
from shipway_master.tasks.states import TaskType


class Launching:
    """Puts together what a run needs; what it takes from elsewhere is looked up anew each time."""

    def __init__(
        self,
        *,
        records: TaskRecords,
        owners: Owners,
        cluster: Cluster,
        authenticator: Authenticator,
        caretakers: Mapping[TaskType, Caretaker],
        uses_tls: bool,
    ) -> None:
        self._records, self._owners, self._cluster = records, owners, cluster
        self._authenticator = authenticator
        self._caretakers = caretakers
        self._uses_tls = uses_tls

    async def build(self, record: TaskRecord, allocation: Run) -> Launch:
        """Build the launch of a run, with a token of its own."""
        owner = await self._owners.get(record)
        tgz = await self._records.load_tgz(record.task_id)
        defaults = self._cluster.get_defaults(
            PoolChoice(pool=record.pool, manager=allocation.manager)
        )
        allocation_id = allocation.record.allocation_id
        token = await self._authenticator.issue_allocation_token(
            allocation_id, owner_id=record.owner_id
        )
        if defaults.startup_hook:
            await allocation.say(
                "task_container_defaults.startup_hook is set, and is not run by this master"
            )
        equipment = await self._equip(record, allocation, owner.agent_user)
        return Launch(
            task_id=record.task_id,
            task_type=record.task_type.value,
            allocation_id=allocation_id,
            label=(equipment and equipment.label) or record.label,
            owner=owner.username,
            config=record.config,
            tcd=Tcd(
                network_mode=defaults.network_mode or "bridge",
                gloo_port_range=defaults.gloo_port_range,
                nccl_port_range=defaults.nccl_port_range,
                dtrain_network_interface=defaults.dtrain_network_interface,
            ),
            agent_user=owner.agent_user,
            token=token,
            files=await asyncio.to_thread(unpack_files, tgz),
            uses_tls=self._uses_tls,
            equipment=equipment,
        )

    async def _equip(
        self, record: TaskRecord, allocation: Run, user: AgentUser
    ) -> Equipment | None:
        caretaker = self._caretakers.get(record.task_type)
        if caretaker is not None:
            return await caretaker.equip(record, allocation.record.allocation_id, user)
        if record.service is None:
            return None
        if record.task_type is TaskType.NOTEBOOK:
            return equip_notebook(record.service, user, record.config)
        return equip_shell(record.service, user)
