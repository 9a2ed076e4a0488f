"""The master itself."""

from __future__ import annotations

from shipway_master.config import MasterConfig
from shipway_master.identity import VERSION, Identity
from shipway_master.rpc import Call
from shipway_master.structs import to_struct
from shipway_proto.determined.api.v1.master_pb2 import (
    GetMasterConfigRequest,
    GetMasterConfigResponse,
    GetMasterRequest,
    GetMasterResponse,
    GetTelemetryRequest,
    GetTelemetryResponse,
)


class MasterService:
    """The RPCs about the master."""

    def __init__(self, config: MasterConfig, identity: Identity) -> None:
        self._config, self._identity = config, identity

    async def GetMaster(self, request: GetMasterRequest, call: Call) -> GetMasterResponse:
        """Tell what this master is and can do."""
        return GetMasterResponse(
            version=VERSION,
            master_id=self._identity.master_id,
            cluster_id=self._identity.cluster_id,
            cluster_name=self._identity.cluster_name,
            branding="determined",
            product=GetMasterResponse.PRODUCT_UNSPECIFIED,
            user_management_enabled=True,
        )

    async def GetTelemetry(self, request: GetTelemetryRequest, call: Call) -> GetTelemetryResponse:
        """Tell that nothing is reported to anybody."""
        return GetTelemetryResponse(enabled=False)

    async def GetMasterConfig(
        self, request: GetMasterConfigRequest, call: Call
    ) -> GetMasterConfigResponse:
        """Show the settings to an administrator, secrets hidden."""
        call.principal.require_admin()
        return GetMasterConfigResponse(config=to_struct(self._config.masked()))
