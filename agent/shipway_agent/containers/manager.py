"""What the master orders, and the agreement with it on what is here."""

from __future__ import annotations

import logging
import signal
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

from shipway_agent.containers.container import ManagedContainer
from shipway_agent.containers.ends import (
    AGENT_STOPPED,
    GONE_AFTER_OUTAGE,
    GONE_AFTER_RESTART,
    UNKNOWN_CONTAINER,
)
from shipway_agent.containers.finding import OUTPUT_LOST, Found, find_left
from shipway_agent.containers.lives import Lives
from shipway_agent.containers.orders import Identity, check_order, first_record, spec_maker
from shipway_agent.containers.state import State
from shipway_agent.containers.surroundings import Surroundings
from shipway_agent.errors import StartRefused
from shipway_agent.master.link import Greeting
from shipway_agent.master.messages import (
    AgentMessage,
    AgentStarted,
    Container,
    ContainerLog,
    Failure,
    FailureType,
    MasterOptions,
    PullStats,
    Reattached,
    SignalContainer,
    SlotHealth,
    StartContainer,
    StateChanged,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.runtimes.spec import ContainerId
from shipway_common.logsetup import log_context

log = logging.getLogger(__name__)

_REMEMBERED_ENDS = 1024


class ContainerManager:
    """Carries out the master's orders, and agrees with it on what is here."""

    def __init__(
        self,
        *,
        identity: Identity,
        around: Surroundings,
        outbox: Outbox,
        lives: Lives,
        device_problem: Callable[[str], str | None],
    ) -> None:
        """Make a manager that knows of no containers.

        Args:
            lives: Where the containers go.
            device_problem: Says of a device's UUID why it should not be used now.
        """
        self._identity = identity
        self._around = around
        self._outbox = outbox
        self._lives = lives
        self._device_problem = device_problem
        self._ends: OrderedDict[ContainerId, StateChanged] = OrderedDict()
        self._found: dict[ContainerId, Found] = {}
        self._options: MasterOptions | None = None
        lives.on_end = lambda record: self._remember_end(
            StateChanged(container=record.container, failure=record.failure)
        )

    async def load(self) -> None:
        """Find the containers that an earlier process of this agent left; before dialing.

        Raises:
            ContainerRuntimeError: The runtime does not list them, or another one has some.
            OSError: The records cannot be read.
        """
        self._found = await find_left(self._around, self._identity)

    async def drain(self, grace_s: float) -> None:
        """Take no more orders and end all containers; see `Lives.drain`.

        Those that the master has not agreed on are no one's to end, and are left alone.
        """
        if self._found:
            log.warning("containers of no agreed master go on", extra={"number": len(self._found)})
        await self._lives.drain(grace_s)

    # orders

    def greet(self, options: MasterOptions) -> Greeting:
        """Agree with the master on what is here; see `Obeys.greet`."""
        is_first = self._options is None
        self._options = options
        self._adopt(options)
        expected = {container.id: container for container in options.expected}
        reattached = [
            self._acknowledge(container, is_first=is_first) for container in options.expected
        ]
        missed: list[AgentMessage] = []
        for container in self._lives:
            if container.record.cluster_id != options.cluster_id:
                self._let_go(container)
            elif (known := expected.get(container.id)) is not None:
                missed += container.missed_by(known.state)
            else:
                self._disown(container)
        self._outbox.rewind(lambda message: _is_wanted(message, expected))
        for container_id in expected.keys() & self._ends.keys():
            if self._lives.get(container_id) is None:
                self._tell_end(container_id)
        return Greeting(
            started=AgentStarted(
                version=self._identity.version,
                devices=self._identity.devices,
                reattached=reattached,
                resource_pool=self._identity.resource_pool,
            ),
            missed=missed,
        )

    def obey(self, order: StartContainer | SignalContainer) -> None:
        """Take an order; see `Obeys.obey`."""
        match order:
            case StartContainer():
                self._start(order)
            case SignalContainer():
                self._signal(order)

    def _start(self, order: StartContainer) -> None:
        container = order.container
        with log_context(container_id=container.id):
            if self._lives.get(container.id) is not None:
                log.warning("start order ignored: the container is here already")
                return
            if container.id in self._ends:
                log.warning("start order ignored: the container has ended")
                self._tell_end(container.id)
                return
            try:
                if self._lives.is_stopping:
                    raise StartRefused(AGENT_STOPPED.message)
                check_order(order, self._identity, self._device_problem)
            except StartRefused as error:
                log.error("start refused: %s", error)
                failure = Failure(type=FailureType.AGENT_ERROR, message=str(error))
                ended = replace(container, state=State.TERMINATED)
                self._remember_end(StateChanged(container=ended, failure=failure))
                self._tell_end(container.id)
                return
            self._accept(order)

    def _accept(self, order: StartContainer) -> None:
        assert self._options is not None  # no order comes before the greeting
        identity, options = self._identity, self._options
        record = first_record(order, identity, options, self._around.runtime.name)
        managed = ManagedContainer(record, self._around)
        predecessors = self._lives.with_devices_of(order.container)
        make_spec = spec_maker(order, identity, options, record)
        log.info("container ordered", extra={"description": order.container.description})
        self._lives.begin(managed, managed.live(make_spec, predecessors))

    def _signal(self, order: SignalContainer) -> None:
        container_id = order.container_id
        with log_context(container_id=container_id):
            if managed := self._lives.get(container_id):
                if not 0 < order.number < signal.NSIG:
                    log.error("signal ignored: there is none of that number: %d", order.number)
                    return
                log.info("signal ordered", extra={"signal": order.number})
                if managed.state is State.TERMINATED:
                    self._around.reports.state(
                        managed.record.container, failure=managed.record.failure
                    )
                else:
                    managed.signal(order.number)
            elif container_id in self._ends:
                self._tell_end(container_id)
            else:
                log.warning("signal ordered for a container that is not here")
                unknown = Container(id=container_id, state=State.TERMINATED)
                self._around.reports.state(unknown, failure=UNKNOWN_CONTAINER)

    # agreement

    def _adopt(self, options: MasterOptions) -> None:
        """Take up the found containers of this cluster; those of another are not ours to touch."""
        expected = {container.id: container for container in options.expected}
        for container_id, found in list(self._found.items()):
            if found.record.cluster_id != options.cluster_id:
                log.warning(
                    "a container of another cluster is left alone",
                    extra={"container_id": container_id, "cluster_id": found.record.cluster_id},
                )
                continue
            del self._found[container_id]
            record = found.record
            if found.is_guess and (named := expected.get(container_id)) is not None:
                devices = named.devices or record.container.devices
                record = replace(record, container=replace(record.container, devices=devices))
                self._around.reports.note(container_id, OUTPUT_LOST, "WARNING")
            managed = ManagedContainer(record, self._around, owned=found.owned)
            self._lives.begin(managed, managed.resume())

    def _acknowledge(self, expected: Container, *, is_first: bool) -> Reattached:
        """Answer for one container that the master expects here.

        The state is the master's own, wherever ours is: the Go master takes another one for the
        end of the container. What it missed follows as state changes, the end after the last line
        of output.
        """
        known: Container | None = None
        if (managed := self._lives.get(expected.id)) is not None:
            known = managed.record.container
        elif (end := self._ends.get(expected.id)) is not None:
            known = end.container
        if known is None:
            log.warning("expected container is not here", extra={"container_id": expected.id})
            failure = GONE_AFTER_RESTART if is_first else GONE_AFTER_OUTAGE
            return Reattached(container=Container(id=expected.id), failure=failure)
        description = known.description if is_first else ""
        return Reattached(container=replace(known, state=expected.state, description=description))

    def _disown(self, container: ManagedContainer) -> None:
        if not container.ended.is_set():
            log.warning(
                "killing a container the master knows nothing of",
                extra={"container_id": container.id},
            )
        container.disown()

    def _let_go(self, container: ManagedContainer) -> None:
        log.warning(
            "the master is another one now; a container of the former is left alone",
            extra={"container_id": container.id, "cluster_id": container.record.cluster_id},
        )
        self._lives.let_go(container)
        self._found[container.id] = Found(
            record=container.current_record(), owned=container.owned
        )  # it may have been a wrong turning

    def _tell_end(self, container_id: ContainerId) -> None:
        end = self._ends[container_id]
        self._around.reports.state(end.container, failure=end.failure)

    def _remember_end(self, end: StateChanged) -> None:
        self._ends[end.container.id] = end
        while len(self._ends) > _REMEMBERED_ENDS:
            self._ends.popitem(last=False)


def _is_wanted(message: AgentMessage, expected: Mapping[ContainerId, Container]) -> bool:
    """Say whether a message that may have been lost is still of use on a new connection.

    States before the end are told anew, from what the master says it knows.
    """
    match message:
        case StateChanged():
            is_end = message.container.state is State.TERMINATED
            return is_end and message.container.id in expected
        case ContainerLog() | PullStats():
            return message.container_id in expected
        case AgentStarted() | SlotHealth():
            return False
