"""Namespaces and quotas of Kubernetes, which has no place among the resources of this master."""

from __future__ import annotations

from typing import NoReturn

from google.protobuf.message import Message

from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call


def no_kubernetes() -> InvalidArgument:
    """The answer to whoever asks for namespaces or quotas."""
    return InvalidArgument(
        "namespaces and quotas of workspaces are Kubernetes's: this master runs tasks on agents "
        "and in Slurm, where pools are bound to workspaces instead (det rp bindings add)"
    )


class NamespaceService:
    """The RPCs of namespaces and quotas, which all say that there are none."""

    async def SetWorkspaceNamespaceBindings(self, request: Message, call: Call) -> NoReturn:
        """Say that there are no namespaces."""
        raise no_kubernetes()

    async def ListWorkspaceNamespaceBindings(self, request: Message, call: Call) -> NoReturn:
        """Say that there are no namespaces."""
        raise no_kubernetes()

    async def DeleteWorkspaceNamespaceBindings(self, request: Message, call: Call) -> NoReturn:
        """Say that there are no namespaces."""
        raise no_kubernetes()

    async def GetWorkspacesWithDefaultNamespaceBindings(
        self, request: Message, call: Call
    ) -> NoReturn:
        """Say that there are no namespaces."""
        raise no_kubernetes()

    async def BulkAutoCreateWorkspaceNamespaceBindings(
        self, request: Message, call: Call
    ) -> NoReturn:
        """Say that there are no namespaces."""
        raise no_kubernetes()

    async def SetResourceQuotas(self, request: Message, call: Call) -> NoReturn:
        """Say that there are no quotas."""
        raise no_kubernetes()

    async def GetKubernetesResourceQuotas(self, request: Message, call: Call) -> NoReturn:
        """Say that there are no quotas."""
        raise no_kubernetes()
