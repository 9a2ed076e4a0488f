"""One container's output from its runtime to the master, by whatever way there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from shipway_agent.logs.delivery import LogDelivery, Patience
from shipway_agent.logs.encode import BatchEncoder, LogSource
from shipway_agent.logs.forward import OpenOutput, OutputForwarder, OutputSink
from shipway_agent.logs.journal import Journal
from shipway_agent.logs.routes import LogRoutes, TaskRoute
from shipway_agent.runtimes.spec import Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipping:
    """How output goes by the task's own token."""

    routes: LogRoutes
    token: str = field(repr=False)
    source: LogSource
    journal: Journal | None
    on_note: Callable[[str], None]


class ContainerOutput:
    """Brings the output of one container to the master, from where an earlier process ended."""

    def __init__(
        self,
        open_output: OpenOutput,
        websocket: OutputSink,
        *,
        shipping: Shipping | None,
        delivered: Mapping[Stream, int],
        on_delivered: Callable[[Stream, int], None],
    ) -> None:
        """Prepare.

        Args:
            open_output: Gives the container's output.
            websocket: Takes what does not go by the task's token.
            shipping: None: all goes by *websocket*.
            delivered: Offsets up to which the master has read each stream.
            on_delivered: Called with a stream and its new offset.
        """
        self._open_output, self._websocket = open_output, websocket
        self._delivered, self._on_delivered = dict(delivered), on_delivered
        self._route: TaskRoute | None = None
        self._delivery: LogDelivery | None = None
        self._forwarder: OutputForwarder | None = None
        if shipping is not None:
            encoder = BatchEncoder(shipping.source)
            self._route = TaskRoute(shipping.routes, encoder, shipping.token)
            self._delivery = LogDelivery(
                self._route,
                shipping.source,
                shipping.journal,
                instead=websocket,
                on_note=shipping.on_note,
                patience=Patience(longest_retry_s=shipping.routes.longest_retry_s),
            )

    @property
    def progress(self) -> int:
        """Grows while something comes or goes."""
        return 0 if self._forwarder is None else self._forwarder.progress

    @property
    def is_blocked(self) -> bool:
        """Whether it is the master that everything waits for."""
        return (self._delivery or self._websocket).is_blocked

    def try_other_way(self) -> bool:
        """Stop waiting for the master's API; returns whether that may change anything."""
        return self._delivery is not None and self._delivery.give_up()

    async def run(self) -> None:
        """Bring all of it; may be called again after it raised.

        Raises:
            ContainerRuntimeError: The runtime did not give the output.
        """
        async with AsyncExitStack() as stack:
            if self._route is not None:
                await stack.enter_async_context(self._route)
            if self._forwarder is None:
                self._forwarder = await self._make_forwarder()
            await self._forwarder.run()

    async def _make_forwarder(self) -> OutputForwarder:
        offsets, not_before_us = self._delivered, 0
        if self._delivery is not None:
            offsets, not_before_us = await self._delivery.recover(self._delivered)
        return OutputForwarder(
            self._open_output,
            self._delivery or self._websocket,
            delivered=offsets,
            on_delivered=self._on_delivered,
            not_before_us=not_before_us,
        )
