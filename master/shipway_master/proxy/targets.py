"""From the name of a service to where it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shipway_master.allocations.allocation import Allocation
from shipway_master.proxynetworks import NotAllowed, ProxyNetworks
from shipway_master.tasks.errors import TaskNotFound
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks


class ServiceNotFound(Exception):
    """No task that runs serves under this name."""

    def __init__(self, service: str) -> None:
        super().__init__(f"service not found: {service}")


class ServiceUnreachable(Exception):
    """A task serves under this name, at an address where the master does not go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a service is, and who may use it."""

    host: str
    port: int
    owner_id: int
    is_tcp: bool
    """Bytes over a websocket; else HTTP."""
    is_open: bool
    """Nobody is asked who he is: the service protects itself."""
    is_told: bool
    """The task itself has told the host, not an agent."""

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def find_target(service: str, tasks: Tasks) -> Target:
    """Find a service: `TASK` for what a task is there for, `TASK:PORT` for its other ports.

    Before it is connected to, it goes through `require_reachable`.

    Raises:
        ServiceNotFound: There is none, or not yet, or not any more.
    """
    task_id, colon, port_text = service.partition(":")
    try:
        record = await tasks.get(task_id)
    except TaskNotFound as error:
        raise ServiceNotFound(service) from error
    target = _find_port(record, tasks.find_run(record.task_id), port_text if colon else None)
    if target is None:
        raise ServiceNotFound(service)
    return target


async def require_reachable(target: Target, networks: ProxyNetworks) -> Target:
    """Give back a target with an address where the master may go; agents are believed.

    Raises:
        ServiceUnreachable: It has none.
    """
    if not target.is_told:
        return target
    try:
        return replace(target, host=await networks.resolve(target.host))
    except (NotAllowed, OSError) as error:
        raise ServiceUnreachable(f"the service cannot be reached: {error}") from error


def _find_port(record: TaskRecord, run: Allocation | None, port_text: str | None) -> Target | None:
    if run is None:
        return None
    if port_text is None and record.service is not None:
        return _locate(
            record,
            run,
            record.service.port,
            is_tcp=record.task_type is TaskType.SHELL,
            is_open=record.task_type is not TaskType.TENSORBOARD,  # which asks nobody for a key
        )
    for wish in record.config.environment.proxy_ports:
        is_meant = wish.default_service_id if port_text is None else str(wish.proxy_port)
        if is_meant in (True, port_text):
            return _locate(
                record, run, wish.proxy_port, is_tcp=wish.proxy_tcp, is_open=wish.unauthenticated
            )
    return None


def _locate(
    record: TaskRecord, run: Allocation, port: int, *, is_tcp: bool, is_open: bool
) -> Target | None:
    """Say where the first container of a run has *port*."""
    if run.is_over or not run.record.shares:
        return None
    share, is_told = run.record.shares[0], False
    for address in share.addresses:
        if address.container_port == port:
            host, port = address.host_ip, address.host_port
            break
    else:
        nodes = run.record.ranks.nodes
        if share.assignment.agent_id is not None or not (run.record.proxy_address or nodes):
            return None
        host = run.record.proxy_address or nodes[0]  # a Slurm job has its node's own ports
        is_told = True
    return Target(
        host=host.strip("[]"),
        port=port,
        owner_id=record.owner_id,
        is_tcp=is_tcp,
        is_open=is_open,
        is_told=is_told,
    )
