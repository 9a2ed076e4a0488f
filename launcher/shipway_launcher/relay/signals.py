"""Signals for the master that go by way of the spool, whoever has heard of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from shipway_launcher.relay.address import MasterAddress
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.master import MasterRpc
from shipway_launcher.relay.messages import allocation_request
from shipway_launcher.relay.settings import RelaySettings
from shipway_launcher.relay.spool import Spool
from shipway_launcher.relay.streamfile import Owner

log = logging.getLogger(__name__)

_SETTLE_S = 20.0


PENDING_PREEMPTION = "AllocationPendingPreemptionSignal"

SIGNALS: Mapping[str, str] = {
    PENDING_PREEMPTION: "signals/pending_preemption",
    "AckAllocationPreemptionSignal": "signals/ack_preemption",
    "AllocationReady": "ready",
    "AllocationWaiting": "waiting",
}
"""The calls that say nothing but that something is so, and where each is below an allocation.

The master must hear of each, and does not mind when; whoever calls cannot wait for it.
"""


async def put_allocation_signal(spool: Spool, owner: Owner, rpc: str) -> None:
    """Take one of `SIGNALS` to disk; once for each allocation, whoever says it.

    Raises:
        RelayError: It was not taken.
    """
    stream = await spool.stream(owner)
    signal = allocation_request(owner.allocation_id)
    key = SIGNALS[rpc].removeprefix("signals/")
    if await stream.put_signal(Message(rpc=rpc, key=key, request=signal)):
        log.info("signal reported", extra={"allocation_id": owner.allocation_id, "signal": key})


async def settle_allocation(spool: Spool, allocation_id: str) -> None:
    """Wait a moment for the master to get all that an allocation has said.

    A master that hears of a job's end takes the job's token as no good from then on.
    """
    if not await spool.settle(allocation_id, limit_s=_SETTLE_S):
        log.info(
            "a job's end may be heard of before all that the job said",
            extra={"allocation_id": allocation_id},
        )


def job_owner(allocation_id: str, token: str) -> Owner:
    """Return as whom a job speaks that sends its allocation's token."""
    return Owner(allocation_id=allocation_id, metadata=(("x-allocation-token", f"Bearer {token}"),))


class SignalSpool:
    """The spool without a listener, for where jobs reach the master themselves; to be entered."""

    def __init__(self, settings: RelaySettings, spool_dir: Path, master: MasterAddress) -> None:
        self._settings, self._spool_dir, self._master = settings, spool_dir, master
        self._stack = AsyncExitStack()
        self._spool: Spool | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            rpc = await stack.enter_async_context(MasterRpc(self._master, self._settings.tls))
            self._spool = await stack.enter_async_context(
                Spool(self._spool_dir, self._settings.spool, self._settings.gather, rpc)
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def learn(self, environment: Mapping[str, str]) -> None:
        """Hear where the master is from the variables of a job's task.

        Raises:
            ValueError: DET_MASTER is no URL of a master.
            OSError: It cannot be written down.
        """
        await self._master.learn(environment["DET_MASTER"])

    async def report_preemption(self, allocation_id: str, token: str) -> None:
        """Tell the master once, as soon as it is there, that a preemption is pending.

        Raises:
            RelayError: It was not taken.
        """
        assert self._spool is not None, "to be entered first"
        await put_allocation_signal(
            self._spool, job_owner(allocation_id, token), PENDING_PREEMPTION
        )

    async def settle(self, allocation_id: str) -> None:
        """Wait a moment for the master to get what it is still to be told of a job."""
        assert self._spool is not None, "to be entered first"
        await settle_allocation(self._spool, allocation_id)
