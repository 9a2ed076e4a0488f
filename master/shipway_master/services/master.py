"""The master itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing

from shipway_master.config import MasterConfig
from shipway_master.errors import InvalidArgument
from shipway_master.identity import VERSION, Identity
from shipway_master.notice import ClusterNotice
from shipway_master.recentlogs import LoggedLine, RecentLogs
from shipway_master.retention import LogRetention
from shipway_master.rpc import Call
from shipway_master.structs import to_struct
from shipway_proto.determined.api.v1.master_pb2 import (
    CleanupLogsRequest,
    CleanupLogsResponse,
    DeleteClusterMessageRequest,
    DeleteClusterMessageResponse,
    GetClusterMessageRequest,
    GetClusterMessageResponse,
    GetKubernetesResourceManagersRequest,
    GetKubernetesResourceManagersResponse,
    GetMasterConfigRequest,
    GetMasterConfigResponse,
    GetMasterRequest,
    GetMasterResponse,
    GetTelemetryRequest,
    GetTelemetryResponse,
    MasterLogsRequest,
    MasterLogsResponse,
    PatchMasterConfigRequest,
    PatchMasterConfigResponse,
    SetClusterMessageRequest,
    SetClusterMessageResponse,
)
from shipway_proto.determined.log.v1.log_pb2 import (
    LOG_LEVEL_CRITICAL,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_ERROR,
    LOG_LEVEL_INFO,
    LOG_LEVEL_TRACE,
    LOG_LEVEL_WARNING,
    LogEntry,
    LogLevel,
)

log = logging.getLogger(__name__)

_LEVELS = (
    (LOG_LEVEL_CRITICAL, logging.CRITICAL),
    (LOG_LEVEL_ERROR, logging.ERROR),
    (LOG_LEVEL_WARNING, logging.WARNING),
    (LOG_LEVEL_INFO, logging.INFO),
    (LOG_LEVEL_DEBUG, logging.DEBUG),
)
_PYTHON_LEVELS = {**dict(_LEVELS), LOG_LEVEL_TRACE: logging.DEBUG}


class MasterService:
    """The RPCs about the master."""

    def __init__(
        self,
        config: MasterConfig,
        identity: Identity,
        logs: RecentLogs,
        notice: ClusterNotice,
        *,
        retention: LogRetention,
    ) -> None:
        self._config, self._identity = config, identity
        self._logs, self._notice, self._retention = logs, notice, retention

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
            cluster_message=await self._notice.current(),
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

    async def PatchMasterConfig(
        self, request: PatchMasterConfigRequest, call: Call
    ) -> PatchMasterConfigResponse:
        """Change how much is logged, until the next start."""
        call.principal.require_admin()
        paths = set(request.field_mask.paths)
        if unknown := paths - {"log", "log.level", "log.color"}:
            names = ", ".join(sorted(unknown))
            raise InvalidArgument(f"cannot be changed while the master runs: {names}")
        if paths & {"log", "log.level"}:
            level = _PYTHON_LEVELS.get(request.config.log.level)
            if level is None:
                raise InvalidArgument("config.log.level must be one of TRACE to CRITICAL")
            logging.getLogger().setLevel(level)
            log.warning("log level changed", extra={"level": logging.getLevelName(level).lower()})
        return PatchMasterConfigResponse()

    async def MasterLogs(
        self, request: MasterLogsRequest, call: Call
    ) -> AsyncIterator[MasterLogsResponse]:
        """Read the master's own latest log lines, and the coming ones with `follow`."""
        call.principal.require_admin()
        if request.limit < 0:
            raise InvalidArgument("Limit must be >= 0")
        if request.limit > 0 and request.follow:
            raise InvalidArgument("Limit cannot be specified when following")
        if request.follow:
            return _answers(self._logs.follow(offset=request.offset))
        return _answers(_each(self._logs.read(offset=request.offset, limit=request.limit)))

    async def CleanupLogs(self, request: CleanupLogsRequest, call: Call) -> CleanupLogsResponse:
        """Remove at once the logs that are older than `retention_policy` allows."""
        call.principal.require_admin()
        return CleanupLogsResponse(removed_count=await self._retention.clean())

    async def GetKubernetesResourceManagers(
        self, request: GetKubernetesResourceManagersRequest, call: Call
    ) -> GetKubernetesResourceManagersResponse:
        """Name none: this master has no Kubernetes."""
        return GetKubernetesResourceManagersResponse()

    async def GetClusterMessage(
        self, request: GetClusterMessageRequest, call: Call
    ) -> GetClusterMessageResponse:
        """Show an administrator the message, even if it is not yet time for it."""
        call.principal.require_admin()
        return GetClusterMessageResponse(cluster_message=await self._notice.stored())

    async def SetClusterMessage(
        self, request: SetClusterMessageRequest, call: Call
    ) -> SetClusterMessageResponse:
        """Tell all users something, in place of what they were told before."""
        call.principal.require_admin()
        await self._notice.set(request)
        return SetClusterMessageResponse()

    async def DeleteClusterMessage(
        self, request: DeleteClusterMessageRequest, call: Call
    ) -> DeleteClusterMessageResponse:
        """Tell users nothing any more."""
        call.principal.require_admin()
        await self._notice.delete()
        return DeleteClusterMessageResponse()


async def _each(lines: Iterable[LoggedLine]) -> AsyncGenerator[LoggedLine]:
    for line in lines:
        yield line


async def _answers(lines: AsyncGenerator[LoggedLine]) -> AsyncGenerator[MasterLogsResponse]:
    async with aclosing(lines):
        async for line in lines:
            entry = LogEntry(id=line.id, message=line.text, level=_level(line.level))
            entry.timestamp.FromNanoseconds(int(line.created_s * 1e9))
            yield MasterLogsResponse(log_entry=entry)


def _level(number: int) -> LogLevel.ValueType:
    return next((level for level, least in _LEVELS if number >= least), LOG_LEVEL_TRACE)
