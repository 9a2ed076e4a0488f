"""Staying with a running container: its end, its output, the signals for it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass

from shipway_agent.containers.ends import failure_of_exit, failure_of_loss
from shipway_agent.containers.keeping import OutputKeeping
from shipway_agent.containers.records import Record
from shipway_agent.containers.reports import Reports
from shipway_agent.containers.surroundings import Surroundings
from shipway_agent.errors import ContainerNotFound, ContainerRuntimeError
from shipway_agent.logs.batch import Batch
from shipway_agent.logs.encode import LogSource
from shipway_agent.logs.output import ContainerOutput, Shipping
from shipway_agent.master.messages import Failure
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId, Stream
from shipway_agent.tasks import first_ended

log = logging.getLogger(__name__)

_ROUNDS_BEFORE_OTHER_WAY = 4


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
        record: Record,
        on_delivered: Callable[[Stream, int], None],
    ) -> None:
        """Make a follower.

        Args:
            record: What is known of the container.
            on_delivered: Called when the master has read more of the output.
        """
        self._around = around
        self._handle = handle
        self._wishes = wishes
        self._ships_output = record.ships_output
        self._keeping = OutputKeeping(around.runtime, handle)
        self._output = ContainerOutput(
            self._keeping.open,
            WebsocketSink(handle.container_id, around.reports),
            shipping=self._shipping(record),
            delivered=record.delivered,
            on_delivered=self._keeping.noting(on_delivered),
        )

    async def run(self, *, on_ended: Callable[[], None]) -> Failure | None:
        """Follow to the end; returns how the container failed.

        Args:
            on_ended: Called when the container has ended, before its last output was read.
        """
        forwarding = asyncio.ensure_future(self._forward_wanted())
        sending = asyncio.ensure_future(self._send_signals())
        releasing = asyncio.ensure_future(self._keeping.release())
        parts = [forwarding, sending, releasing]
        try:
            failure = await self._wait_end()
            on_ended()
            await self._drain(forwarding)
        finally:
            for task in parts:
                task.cancel()
            await asyncio.wait(parts)
        for task in parts:
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
            except (ContainerRuntimeError, OSError) as error:
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
        except (ContainerRuntimeError, OSError) as error:
            log.warning("signal not delivered: %s", error, extra={"signal": number})
            # Whoever kills means it, whatever the runtime says.
            may_work = number == signal.SIGKILL or isinstance(error, OSError) or error.retryable
            return not may_work
        return True

    def _shipping(self, record: Record) -> Shipping | None:
        """Say how the output goes by the task's own token, if it has one."""
        routes, container_id = self._around.log_routes, self._handle.container_id
        if routes is None or not record.session_token or not record.task_id:
            return None
        return Shipping(
            routes=routes,
            token=record.session_token,
            source=LogSource(
                task_id=record.task_id,
                allocation_id=record.allocation_id,
                agent_id=record.agent_id,
                container_id=container_id,
            ),
            journal=self._around.records.journal_of(container_id),
            on_note=lambda text: self._around.reports.note(container_id, text, "WARNING"),
        )

    async def _forward_wanted(self) -> None:
        if self._ships_output:
            await first_ended(self._forward(), self._wait_unwanted())
        if not self._ships_output or self._wishes.unwanted.is_set():
            await self._keeping.discard()

    async def _wait_unwanted(self) -> None:
        await self._wishes.unwanted.wait()

    async def _forward(self) -> None:
        delays, problem = self._around.limits.delays(), ""
        while True:
            try:
                await self._output.run()
            except ContainerNotFound:
                return
            except (ContainerRuntimeError, OSError) as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("cannot read the container's output, trying again: %s", problem)
                await asyncio.sleep(next(delays))
            else:
                return

    async def _drain(self, forwarding: asyncio.Future[None]) -> None:
        """Wait for the last output; not longer than something comes or the master is slow."""
        limit_s, rounds = self._around.limits.drain_s, 0
        while True:
            seen = self._output.progress
            done, _ = await asyncio.wait([forwarding], timeout=limit_s)
            if done:
                return
            rounds = rounds + 1 if self._output.progress == seen else 0
            if rounds >= _ROUNDS_BEFORE_OTHER_WAY and self._output.try_other_way():
                rounds = 0
            elif rounds and not self._output.is_blocked:
                break
        text = f"the last output may be missing: it did not end within {limit_s:g} s of the task"
        log.warning(text)
        self._around.reports.note(self._handle.container_id, text, "WARNING")


class WebsocketSink:
    """Brings the output of one container by the agent's own connection, which needs no token."""

    def __init__(self, container_id: ContainerId, reports: Reports) -> None:
        self._container_id = container_id
        self._reports = reports

    @property
    def is_blocked(self) -> bool:
        """See `OutputSink`."""
        return not self._reports.has_room

    async def send(self, batch: Batch, on_delivered: Callable[[], None]) -> None:
        """See `OutputSink`."""
        await self._reports.output(self._container_id, batch, on_delivered)
