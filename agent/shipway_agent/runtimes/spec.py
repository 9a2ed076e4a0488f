"""What a container is to be, what comes of it, and the Protocol of all that can run one.

Text that may hold arbitrary bytes (arguments, environment, paths) is `str` with undecodable bytes
as surrogates, the form of `os.fsdecode`; task output is `bytes` and is never decoded here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, NewType, Protocol, runtime_checkable

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.processes import ProcessIdentity

ContainerId = NewType("ContainerId", str)
"""The master's id of a container; the runtime's own is `ContainerHandle.native_id`."""

Stream = Literal["stdout", "stderr"]
GpuVendor = Literal["nvidia", "rocm"]

LABEL_PREFIX = "ai.determined.container."
ID_LABEL = LABEL_PREFIX + "id"
"""Every runtime finds its containers by this label; it is set from the spec's id if missing."""


class ItemKind(StrEnum):
    """Kinds of an archive's items."""

    FILE = "file"
    DIRECTORY = "dir"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveItem:
    """One file, folder or link that must lie in the container before its program starts."""

    path: str
    """Relative to the archive's path; a leading slash changes nothing."""
    kind: ItemKind
    content: bytes = b""
    """The file's data; for a symlink, where it points."""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Items that are unpacked below one folder of the container, in order."""

    path: str
    items: tuple[ArchiveItem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A bind mount of a host path."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmpfs:
    """A file system in memory, empty at first."""

    target: str
    size_bytes: int | None = None
    """None: the kernel's default, half of the memory."""
    mode: int = 0o1777


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node of the host."""

    host: str
    container: str
    mode: str = "mrw"
    """Cgroup permissions: any of r (read), w (write), m (make the node)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU that belongs to the container alone."""

    uuid: str
    vendor: GpuVendor
    pci_bus: str | None = None
    """PCI address such as 0000:c1:00.0; device nodes of ROCm and of MIG are found by it."""
    index: int | None = None
    """The driver's number for it; ROCm needs it where cards tell no unique id of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """Who we are to an image registry; never logged."""

    username: str = ""
    password: str = field(default="", repr=False)
    server_address: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)
    """Base64 of `user:password`, used when those two are empty."""
    email: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything a runtime must know to make a container."""

    id: ContainerId
    name: str = ""
    """A human's hint, such as cmd-<task>; identity is in `id`."""
    image: str | None
    """The sandbox runs on the host's own files whatever it says; all others need one."""
    argv: tuple[str, ...]
    entrypoint: tuple[str, ...] | None = None
    """None keeps the image's own, which then gets *argv* as its arguments."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    work_dir: str = ""
    """Empty: the image's own."""
    user: str | None = None
    """`uid:gid`; None: the image's own, or whoever the agent is."""
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    archives: tuple[Archive, ...] = field(default=(), repr=False)
    tree: Path | None = None
    """A host folder whose content must appear at / (archives that were unpacked before)."""
    ports: tuple[int, ...] = ()
    """TCP ports the program listens on."""
    publish_all_ports: bool = False
    """Give each of *ports* a free port of the host, where the network is not the host's own."""
    network_mode: str = "host"
    shm_size_bytes: int | None = None
    devices: tuple[Device, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    all_gpus: GpuVendor | None = None
    """Give what the host lets this process see (in a Slurm job, Slurm has chosen already)."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    registry_auth: RegistryAuth | None = None
    force_pull: bool = False
    """Ask the registry even if the image is here, and use no cache of converted images."""
    auto_remove: bool = False
    """Let the runtime remove the container when it ends; its exit may then be lost."""

    def require_image(self) -> str:
        """Return the image.

        Raises:
            SpecUnsupported: There is none.
        """
        if not self.image:
            raise SpecUnsupported(
                "the task names no image, and this container runtime needs one: set"
                " environment.image, or a default (task_container_defaults) in the master's settings"
            )
        return self.image


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHandle:
    """A container that a runtime made."""

    container_id: ContainerId
    native_id: str
    """The runtime's own name for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a port of the container can be reached."""

    container_ip: str
    container_port: int
    host_ip: str
    """May be a wildcard such as 0.0.0.0; empty, like *container_ip*, on the host's own network."""
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The program runs."""

    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Where a running container's processes are on this host."""

    first: ProcessIdentity
    """The container's first process."""
    holder: ProcessIdentity | None = None
    """The process below which all of the container's are, and no others; None: only a cgroup, which
    carries the container's native id in its path, tells them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Bytes a container wrote, as they came; may begin and end inside a line or a character."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a container ended."""

    code: int | None
    """Exit status as a shell gives it (128 + number for a signal); None if nobody knows it."""
    signal: int | None = None
    """The signal that ended it, where the runtime can tell that from a plain exit status."""
    out_of_memory: bool = False
    reason: str = ""
    """In plain words, where *code* does not say it all."""


class ContainerState(StrEnum):
    """How far a container is, as its runtime sees it."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A container of ours that the runtime still knows."""

    handle: ContainerHandle
    container_id: ContainerId
    state: ContainerState
    exit: Exit | None
    """Set exactly when the state is exited."""
    labels: Mapping[str, str]
    addresses: tuple[Address, ...] = ()


class EventKind(StrEnum):
    """Kinds of what a runtime tells while it prepares a container."""

    PULL_SKIPPED = "pull_skipped"
    PULL_BEGAN = "pull_began"
    PULL_PROGRESS = "pull_progress"
    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a person waiting for the container may want to read."""

    kind: EventKind
    text: str
    fraction: float | None = None
    """How much of the image is here, 0 to 1; set with progress only."""


OnEvent = Callable[[Event], None]
"""Called in the event loop; must not block."""


class Runtime(Protocol):
    """One way to run containers. Every method may raise a `ContainerRuntimeError`.

    Containers outlive the object and the process, unless the runtime was made *tethered*: closing
    lets go of them. Cancelling a call lets go of what it watches and never ends a container.
    """

    @property
    def name(self) -> str:
        """The runtime as people call it: docker, podman, apptainer, sandbox."""
        ...

    @property
    def description(self) -> str:
        """Which version it is and how it is reached, in one line for people."""
        ...

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        """Make the image of *spec* available on this host.

        Progress comes once a second at most; `PULL_BEGAN` is given exactly if something is fetched.

        Raises:
            ImageNotFound: The image does not exist or is hidden from us.
            PullFailed: It did not arrive.
            SpecUnsupported: *spec* names no image.
        """
        ...

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        """Make the container, with all its files, but do not start its program.

        Nothing is left behind if it raises.

        Raises:
            SpecUnsupported: What *spec* asks for cannot be had here; the text names it.
        """
        ...

    async def start(self, handle: ContainerHandle) -> Started:
        """Start the program; returns when it runs (or has already ended).

        Raises:
            LaunchRefused: The program could not be started.
        """
        ...

    def output(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        """Yield all output from the first byte on, and end when the container has ended.

        Each call gives each stream the same bytes again. Where chunks begin, and how the two
        streams alternate, may differ from call to call: an offset to keep is one per stream.
        A reader that is slow, or none, does not hold up the container.
        """
        ...

    async def wait(self, handle: ContainerHandle) -> Exit:
        """Wait for the end of a started container; may be called again after it."""
        ...

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        """Send a signal to the container's first process; one that has ended is no error."""
        ...

    async def kill(self, handle: ContainerHandle) -> None:
        """End the container and all its processes; they are gone when this returns.

        One that never ran or has ended is no error. Exit and output stay until `remove`.

        Raises:
            RuntimeRefused: It is still there although everything was tried.
        """
        ...

    async def remove(self, handle: ContainerHandle) -> None:
        """Forget the container, killing it first if it runs; one that is gone is no error."""
        ...

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        """Find the containers, in any state, that carry all of *labels* and a container id."""
        ...

    async def processes(self, handle: ContainerHandle) -> Processes | None:
        """Find the container's processes; None if it does not run, or not on this host."""
        ...

    async def aclose(self) -> None:
        """Let go of the runtime; the containers stay."""
        ...


@runtime_checkable
class Answers(Protocol):
    """A runtime that depends on a program or service that may not answer."""

    async def ping(self) -> None:
        """Ask for a sign of life, as cheaply as it goes.

        Raises:
            ContainerRuntimeError: There was none.
        """
        ...


@runtime_checkable
class KeepsOutput(Protocol):
    """A runtime whose containers' output is kept by us, and given up piece by piece."""

    async def first_kept(self, handle: ContainerHandle) -> Mapping[Stream, int]:
        """Return the offset in each stream of the first byte that is still kept.

        `output` begins with it.
        """
        ...

    def output_from(
        self, handle: ContainerHandle, offsets: Mapping[Stream, int]
    ) -> AsyncIterator[Chunk]:
        """Yield the output as `output` does, without the first *offsets* bytes of each stream.

        They must be bytes that are still kept.
        """
        ...

    async def release_output(self, handle: ContainerHandle, offsets: Mapping[Stream, int]) -> None:
        """Give up the first *offsets* bytes of each stream, now or later: they were delivered.

        A task that has written too far ahead of this waits (`RuntimeOptions.output_limit_bytes`).
        """
        ...

    async def discard_output(self, handle: ContainerHandle) -> None:
        """Say that nobody will read the output: the task never waits for it, old parts may go."""
        ...
