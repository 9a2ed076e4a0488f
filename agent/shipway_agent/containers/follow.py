"""Staying with a running container: its end, its output, the signals for it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shipway_agent.containers.ends import failure_of_exit, failure_of_loss
from shipway_agent.containers.reports import Reports
from shipway_agent.containers.surroundings import Surroundings
from shipway_agent.errors import ContainerNotFound, ContainerRuntimeError
from shipway_agent.logs.batch import Batch
from shipway_agent.logs.forward import OutputForwarder
from shipway_agent.master.messages import Failure
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Stream
from shipway_agent.tasks import first_ended

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What others want of a container while it runs."""

    signals: asyncio.Queue[int]
    """To be sent to it, in order."""
    unwanted: asyncio.Event
    """Set when nobody reads its output any more."""


class Follower:
    """Stays with one running container until its end and its last output."""

    def __init__(
        self,
        around: Surroundings,
        handle: ContainerHandle,
        wishes: Wishes,
        *,
        delivered: Mapping[Stream, int],
        on_delivered: Callable[[Stream, int], None],
    ) -> None:
        """Make a follower.

        Args:
            delivered: Offsets up to which the master has read the output.
            on_delivered: Called when it has read more.
        """
        self._around = around
        self._handle = handle
        self._wishes = wishes
        self._forwarder = OutputForwarder(
            lambda: around.runtime.output(handle),
            _Sink(handle.container_id, around.reports),
            delivered=delivered,
            on_delivered=on_delivered,
        )

    async def run(self, *, ships_output: bool, on_ended: Callable[[], None]) -> Failure | None:
        """Follow to the end; returns how the container failed.

        Args:
            ships_output: Whether the output goes to the master.
            on_ended: Called when the container has ended, before its last output was read.
        """
        forwarding = asyncio.ensure_future(self._forward_wanted(ships_output))
        sending = asyncio.ensure_future(self._send_signals())
        try:
            failure = await self._wait_end()
            on_ended()
            await self._drain(forwarding)
        finally:
            forwarding.cancel()
            sending.cancel()
            await asyncio.wait([forwarding, sending])
        for task in (forwarding, sending):
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a part of the watch over a container failed", exc_info=error)
        return failure

    async def _wait_end(self) -> Failure | None:
        """Wait for the exit; a runtime that cannot be asked is asked again."""
        delays, problem = self._around.limits.delays(), ""
        while True:
            try:
                ended = await self._around.runtime.wait(self._handle)
            except ContainerNotFound as error:
                return failure_of_loss(error)
            except ContainerRuntimeError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("cannot ask whether the container runs, going on: %s", problem)
                await asyncio.sleep(next(delays))
            else:
                log.info("container ended", extra={"exit_code": ended.code})
                return failure_of_exit(ended)

    async def _send_signals(self) -> None:
        while True:
            number = await self._wishes.signals.get()
            delays = self._around.limits.delays()
            while not await self._sent(number):  # noqa: ASYNC110 (each round asks the runtime)
                await asyncio.sleep(next(delays))

    async def _sent(self, number: int) -> bool:
        """Send a signal; returns whether there is nothing left to do about it."""
        runtime = self._around.runtime
        try:
            if number == signal.SIGKILL:
                await runtime.kill(self._handle)
            else:
                await runtime.signal(self._handle, number)
        except ContainerNotFound:
            return True
        except ContainerRuntimeError as error:
            log.warning("signal not delivered: %s", error, extra={"signal": number})
            return not error.retryable
        return True

    async def _forward_wanted(self, ships_output: bool) -> None:
        if ships_output:
            await first_ended(self._forward(), self._wait_unwanted())

    async def _wait_unwanted(self) -> None:
        await self._wishes.unwanted.wait()

    async def _forward(self) -> None:
        delays, problem = self._around.limits.delays(), ""
        while True:
            try:
                await self._forwarder.run()
            except ContainerNotFound:
                return
            except ContainerRuntimeError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("cannot read the container's output, trying again: %s", problem)
                await asyncio.sleep(next(delays))
            else:
                return

    async def _drain(self, forwarding: asyncio.Future[None]) -> None:
        """Wait for the last output; not longer than something comes or the master is slow."""
        limit_s = self._around.limits.drain_s
        while True:
            seen = self._forwarder.progress
            done, _ = await asyncio.wait([forwarding], timeout=limit_s)
            if done:
                return
            if self._forwarder.progress == seen and not self._forwarder.is_blocked:
                break
        text = f"the last output may be missing: it did not end within {limit_s:g} s of the task"
        log.warning(text)
        self._around.reports.note(self._handle.container_id, text, "WARNING")


class _Sink:
    """Where the output of one container goes."""

    def __init__(self, container_id: ContainerId, reports: Reports) -> None:
        self._container_id = container_id
        self._reports = reports

    @property
    def is_blocked(self) -> bool:
        return not self._reports.has_room

    async def send(self, batch: Batch, on_delivered: Callable[[], None]) -> None:
        await self._reports.output(self._container_id, batch, on_delivered)
