"""Resource pools."""

from __future__ import annotations

from sqlalchemy import select

from shipway_master.cluster.cluster import Cluster
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.store.workspaces import PoolBindingRow
from shipway_proto.determined.api.v1.resourcepool_pb2 import (
    GetResourcePoolsRequest,
    GetResourcePoolsResponse,
)


class PoolService:
    """The RPCs of resource pools."""

    def __init__(self, database: Database, cluster: Cluster) -> None:
        self._database, self._cluster = database, cluster

    async def GetResourcePools(
        self, request: GetResourcePoolsRequest, call: Call
    ) -> GetResourcePoolsResponse:
        """List the pools of agents and the partitions of Slurm."""
        pools = self._cluster.list_pools()
        if request.unbound:
            async with self._database.reading() as session:
                bound = set(await session.scalars(select(PoolBindingRow.pool).distinct()))
            pools = [pool for pool in pools if pool.name not in bound]
        page, pagination = cut_page(pools, offset=request.offset, limit=request.limit)
        return GetResourcePoolsResponse(resource_pools=page, pagination=pagination)
