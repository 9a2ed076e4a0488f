"""Resource pools."""

from __future__ import annotations

from shipway_master.cluster.cluster import Cluster
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_proto.determined.api.v1.resourcepool_pb2 import (
    GetResourcePoolsRequest,
    GetResourcePoolsResponse,
)


class PoolService:
    """The RPCs of resource pools. Pools are bound to no workspace here: all are unbound."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def GetResourcePools(
        self, request: GetResourcePoolsRequest, call: Call
    ) -> GetResourcePoolsResponse:
        """List the pools of agents and the partitions of Slurm."""
        page, pagination = cut_page(
            self._cluster.list_pools(), offset=request.offset, limit=request.limit
        )
        return GetResourcePoolsResponse(resource_pools=page, pagination=pagination)
