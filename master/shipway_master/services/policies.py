"""Policies for the configurations of experiments and tasks."""

from __future__ import annotations

import asyncio

from google.protobuf.struct_pb2 import Struct
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.errors import InvalidArgument
from shipway_master.experiments.config import mask_secrets
from shipway_master.policies.model import BadPolicy, Policy, Workload, parse_policy
from shipway_master.policies.records import PolicyRecords, put_policy
from shipway_master.rpc import Call
from shipway_master.store.again import write_looking
from shipway_master.store.database import Database
from shipway_master.store.policies import EVERYWHERE, PolicyRow
from shipway_master.structs import to_struct
from shipway_master.workspaces.rights import get_workspace
from shipway_proto.determined.api.v1 import config_policies_pb2 as api


class PolicyService:
    """The RPCs of policies: administrators make those of the cluster, owners their workspaces'."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = PolicyRecords(database)

    async def GetGlobalConfigPolicies(
        self, request: api.GetGlobalConfigPoliciesRequest, call: Call
    ) -> api.GetGlobalConfigPoliciesResponse:
        """Read a policy of the cluster."""
        policy = await self._records.load(EVERYWHERE, _read_workload(request.workload_type))
        return api.GetGlobalConfigPoliciesResponse(config_policies=_view(policy))

    async def GetWorkspaceConfigPolicies(
        self, request: api.GetWorkspaceConfigPoliciesRequest, call: Call
    ) -> api.GetWorkspaceConfigPoliciesResponse:
        """Read a policy of a workspace."""
        workload = _read_workload(request.workload_type)
        async with self._database.reading() as session:
            await get_workspace(session, request.workspace_id)
        policy = await self._records.load(request.workspace_id, workload)
        return api.GetWorkspaceConfigPoliciesResponse(config_policies=_view(policy))

    async def PutGlobalConfigPolicies(
        self, request: api.PutGlobalConfigPoliciesRequest, call: Call
    ) -> api.PutGlobalConfigPoliciesResponse:
        """Replace a policy of the cluster."""
        call.principal.require_admin()
        workload = _read_workload(request.workload_type)
        policy = await _read(request.config_policies, workload)

        async def put(session: AsyncSession) -> None:
            await put_policy(session, EVERYWHERE, workload, policy)

        await write_looking(self._database, put)
        return api.PutGlobalConfigPoliciesResponse(config_policies=_view(policy))

    async def PutWorkspaceConfigPolicies(
        self, request: api.PutWorkspaceConfigPoliciesRequest, call: Call
    ) -> api.PutWorkspaceConfigPoliciesResponse:
        """Replace a policy of a workspace."""
        workload = _read_workload(request.workload_type)
        policy = await _read(request.config_policies, workload)

        async def put(session: AsyncSession) -> None:
            row = await get_workspace(session, request.workspace_id)
            call.principal.require_owner_or_admin(row.user_id)
            await put_policy(session, row.id, workload, policy)

        await write_looking(self._database, put)
        return api.PutWorkspaceConfigPoliciesResponse(config_policies=_view(policy))

    async def DeleteGlobalConfigPolicies(
        self, request: api.DeleteGlobalConfigPoliciesRequest, call: Call
    ) -> api.DeleteGlobalConfigPoliciesResponse:
        """Delete a policy of the cluster; where there is none, nothing changes."""
        call.principal.require_admin()
        workload = _read_workload(request.workload_type)
        async with self._database.writing() as session:
            await _delete(session, EVERYWHERE, workload)
        return api.DeleteGlobalConfigPoliciesResponse()

    async def DeleteWorkspaceConfigPolicies(
        self, request: api.DeleteWorkspaceConfigPoliciesRequest, call: Call
    ) -> api.DeleteWorkspaceConfigPoliciesResponse:
        """Delete a policy of a workspace; where there is none, nothing changes."""
        workload = _read_workload(request.workload_type)
        async with self._database.writing() as session:
            row = await get_workspace(session, request.workspace_id)
            call.principal.require_owner_or_admin(row.user_id)
            await _delete(session, row.id, workload)
        return api.DeleteWorkspaceConfigPoliciesResponse()


def _read_workload(text: str) -> Workload:
    try:
        return Workload(text)
    except ValueError as error:
        known = " or ".join(Workload)
        raise InvalidArgument(f"workload_type must be {known}, not {text[:80]!r}") from error


async def _read(text: str, workload: Workload) -> Policy:
    try:
        return await asyncio.to_thread(parse_policy, text, workload)
    except BadPolicy as error:
        raise InvalidArgument(f"invalid policy: {error}") from error


async def _delete(session: AsyncSession, workspace_id: int, workload: Workload) -> None:
    await session.execute(
        delete(PolicyRow).where(
            PolicyRow.workspace_id == workspace_id, PolicyRow.workload == workload.value
        )
    )


def _view(policy: Policy | None) -> Struct:
    if policy is None:
        return Struct()
    plain = policy.plain
    if policy.invariant_config:
        plain["invariant_config"] = mask_secrets(policy.invariant_config)
    return to_struct(plain)
