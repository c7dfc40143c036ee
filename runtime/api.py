"""The contract between Slipway and anything that runs containers: frozen specs, states, errors and the Engine protocol.

All verbs are synchronous, thread-safe and idempotent: twice is once.  An engine keeps the truth about its containers
in the kernel and on disk, never only in memory, so any number of processes (worker, agent, command line) may hold
an engine over the same home at once, and kill -9 of any of them loses nothing.  Every wait has a deadline and
ends in :class:`~runtime.errors.DeadlineExceeded`.

States of a container::

    (none) --create--> created --start--> running --exit, stop, kill--> exited --start--> running
    created, exited --remove--> (none);  running --remove(force)--> (none);  anything --reconcile--> what is true

``created``   spec and writable layer exist; no process, cgroup, address or published port.
``running``   the process is alive.
``exited``    the process ended, its final counters are stored, nothing of it is left in the kernel: no cgroup, mount,
              interface, address or port.
``removing``  a removal was begun; only remove and reconcile act on it, both finish it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, runtime_checkable

Protocol_ = Literal["tcp", "udp"]

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- a name for it, nothing is bound here

ID_PATTERN = r"[a-z][a-z0-9]{2,31}"
"""Ids of containers and tenants.  Names of cgroups, mounts, sockets and interfaces derive from them."""


class State(enum.StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    REMOVING = "removing"


class Capability(enum.StrEnum):
    """What an engine can do beyond the protocol's core; callers ask before they offer it to a person."""

    USER_NAMESPACES = "user_namespaces"
    PUBLISHED_PORTS = "published_ports"
    EXEC = "exec"
    ISOLATION_REPORT = "isolation_report"


# --------------------------------------------------------------------------------------------------- specs


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings, enforced by the container's cgroup and, for the log, by its supervisor."""

    memory_bytes: int = 256 * 2**20
    cpu_millis: int = 1000
    """Thousandths of a vCPU: 1500 is one and a half processors' time."""
    pids: int = 256
    log_bytes: int = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Port:
    """A container's port published on the node.  ``host_port`` None asks the engine to choose a free one (30000-32767)."""

    container_port: int
    protocol: Protocol_ = "tcp"
    host_port: int | None = None
    host_address: str = ANY_ADDRESS
    """As a person who publishes a port expects: reachable at every address of the node."""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What to run.  ``None`` in ``command``, ``working_dir``, ``user`` or ``stop_signal`` means the image's own."""

    id: str
    tenant: str
    name: str
    image: str
    """The image's id: ``sha256:<64 hex>`` of its manifest, as :attr:`Image.id` gives it."""
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    hostname: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    ports: tuple[Port, ...] = ()
    terminal: bool = False
    read_only: bool = False
    stop_signal: str | None = None
    stop_grace_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """A further process in a running container.  ``terminal`` gives it a pseudo-terminal of ``columns`` x ``rows``."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    working_dir: str | None = None
    terminal: bool = False
    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True)
class Credentials:
    """For one registry.  Never logged, never in an error."""

    username: str
    password: str = field(repr=False)


# --------------------------------------------------------------------------------------------------- what is


@dataclass(frozen=True, slots=True)
class Layer:
    digest: str
    """Of the compressed blob, ``sha256:...``."""
    diff_id: str
    """Of the uncompressed tar."""
    size: int
    """Compressed bytes."""
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the local store, ready to run."""

    id: str
    """Digest of the image manifest of this platform."""
    references: tuple[str, ...]
    """Full references (``registry/name:tag``) that resolve to it here."""
    architecture: str
    os: str
    size: int
    """Sum of the compressed layers, bytes."""
    layers: tuple[Layer, ...]
    created: str
    config: Mapping[str, object]
    """The ``config`` object of the OCI image configuration: Env, Entrypoint, Cmd, ExposedPorts, WorkingDir, User, ..."""


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    id: str
    tenant: str
    name: str
    image: str
    state: State
    pid: int | None = None
    created_at: float = 0.0
    """Seconds since the epoch, UTC; likewise the next two."""
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    """None while it never ran or when its supervisor was lost; 128 + N for signal N."""
    oom_killed: bool = False
    reason: str = ""
    """Why it is as it is, for a person, when that is not plain from the rest: "out of memory", "supervisor lost"."""
    address: str | None = None
    """IPv4 on the tenant's network while it runs."""
    ports: tuple[Port, ...] = ()
    """As published; every host_port is set while it runs."""
    epoch: int = 0
    """How many times it was started; counters begin anew with each."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counters:
    """Kernel counters of one container at one instant.  ``None`` means the kernel does not say, never 0.

    Sources: v1 ``cpuacct.usage``, ``memory.usage_in_bytes``, ``memory.stat``, ``pids.current``,
    ``blkio.throttle.io_service_bytes_recursive``, ``cpu.stat``; v2 ``cpu.stat``, ``memory.current``, ``memory.stat``,
    ``pids.current``, ``io.stat``; network from the statistics of the host's end of the veth pair, with host
    transmit = container receive.
    """

    at: float
    """Wall clock, seconds since the epoch: places intervals, never measures them."""
    boottime_ns: int
    """CLOCK_BOOTTIME: measures intervals."""
    cpu_ns: int | None = None
    memory_bytes: int | None = None
    """A gauge, as are the next two; everything else only grows."""
    working_set_bytes: int | None = None
    pids: int | None = None
    throttled_ns: int | None = None
    oom_kills: int | None = None
    block_read_bytes: int | None = None
    block_write_bytes: int | None = None
    net_rx_bytes: int | None = None
    net_tx_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FinalReading:
    """The last counters of one epoch, read after the last process ended and before its cgroup went; durable on disk."""

    container: str
    tenant: str
    epoch: int
    boot_id: str
    cgroup_inode: int
    started_at: float
    finished_at: float
    limits: Limits
    counters: Counters


@dataclass(frozen=True, slots=True)
class LogLine:
    at: str
    """RFC 3339 with nanoseconds, as the supervisor wrote it."""
    stream: Literal["stdout", "stderr"]
    text: str
    partial: bool = False
    """True when the line had no newline yet and the next one continues it."""


@dataclass(frozen=True, slots=True)
class LayerMount:
    role: Literal["lower", "upper", "merged"]
    digest: str
    """diff_id of a lower layer; empty for upper and merged."""
    size: int
    """Bytes on disk."""


@dataclass(frozen=True, slots=True)
class NamespaceIds:
    kind: str
    """cgroup, ipc, mnt, net, pid, user, uts (and time where the kernel has it)."""
    container: int
    """Inode number, as ``readlink /proc/PID/ns/KIND`` shows it."""
    host: int


@dataclass(frozen=True, slots=True)
class IsolationReport:
    """What separates this container from the host, as the kernel says it right now, not as it was asked for."""

    namespaces: tuple[NamespaceIds, ...]
    uid_map: tuple[tuple[int, int, int], ...]
    """(inside, outside, count) rows of /proc/PID/uid_map."""
    cgroup: str
    cgroup_version: Literal[1, 2]
    cgroup_limits: Mapping[str, str]
    """File name -> content, for example ``memory.max`` -> ``268435456``."""
    layers: tuple[LayerMount, ...]
    capabilities: tuple[str, ...]
    seccomp: bool
    no_new_privileges: bool
    apparmor: str = ""
    address: str = ""
    interface: str = ""
    """The host's end of the veth pair."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What :meth:`Engine.reconcile` found and did."""

    adopted: tuple[str, ...] = ()
    """Running containers found alive and left undisturbed."""
    settled: tuple[str, ...] = ()
    """Containers whose process was gone; final counters stored, kernel objects removed."""
    removed: tuple[str, ...] = ()
    """Removals that had been begun and are finished now."""
    failed: tuple[str, ...] = ()
    """Containers that could not be put right, each as ``id: why``; the others were, and the next call tries these again."""
    swept: tuple[str, ...] = ()
    """Leftovers without a container, each as ``kind:name`` (mount, cgroup, interface, address, port, folder)."""


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a long verb.  ``done``/``total`` in the unit of the stage; total None when unknown."""

    stage: Literal["resolve", "download", "verify", "unpack", "build", "create", "network", "start", "stop", "remove"]
    done: int = 0
    total: int | None = None
    detail: str = ""


Progress = Callable[[Step], None]


def no_progress(_step: Step) -> None:
    """For callers that show none."""


# --------------------------------------------------------------------------------------------------- protocols


class ExecSession(Protocol):
    """A running exec.  With a terminal ``stdin`` and ``stdout`` are the same pseudo-terminal and ``stderr`` is None.

    The file objects are raw (unbuffered) and blocking; ``fileno()`` may be handed to an event loop.
    """

    stdin: BinaryIO
    stdout: BinaryIO
    stderr: BinaryIO | None

    def resize(self, columns: int, rows: int) -> None: ...

    def poll(self) -> int | None:
        """Exit code once ended, else None."""

    def wait(self, timeout_s: float) -> int:
        """Raises DeadlineExceeded."""

    def close(self) -> None:
        """Hang up: the process gets SIGHUP and, two seconds later, SIGKILL.  Returns when nothing of it is left."""


@runtime_checkable
class Engine(Protocol):
    """Runs containers.  Implementations: ``runtime.engines.native`` and ``runtime.engines.fake``."""

    name: str
    capabilities: frozenset[Capability]

    # images ------------------------------------------------------------------------------------------

    def pull(
        self,
        reference: str,
        *,
        credentials: Credentials | None = None,
        insecure: bool = False,
        progress: Progress = no_progress,
    ) -> Image:
        """Fetch ``[registry/]name[:tag|@digest]`` and unpack it.

        Resumes what an earlier try left; verifies every digest; ``insecure`` allows plain HTTP to that registry.
        Raises NotFound, ImageDenied, ImageUnavailable, ImageCorrupt, ImageUnsuitable, OutOfSpace, InvalidSpec.
        """

    def load(
        self, archive: Path, *, reference: str | None = None, progress: Progress = no_progress
    ) -> tuple[Image, ...]:
        """Import an OCI or docker archive (tar, gzip or zstd).  Raises as pull does."""

    def build(self, recipe: str, *, progress: Progress = no_progress) -> Image:
        """The image of a built-in recipe (:mod:`runtime.image.recipe`), made of the node's packages unless it is here already.

        Raises NotFound, HostUnfit, ImageUnavailable (packages cannot be had), OutOfSpace, EngineFault.
        """

    def image(self, reference: str) -> Image:
        """By id or reference.  Raises NotFound."""

    def images(self) -> tuple[Image, ...]: ...

    def remove_image(self, reference: str) -> None:
        """Drop a reference, or an id with all its references, and what only it held.

        Raises NotFound, Conflict (a container uses it; ``data['container']`` names one).
        """

    # containers --------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec, *, progress: Progress = no_progress) -> ContainerStatus:
        """Validate the spec and make the container's writable layer.

        Created already with an equal spec: returns its status.  Raises InvalidSpec, NotFound (image),
        Conflict (id exists with another spec), LimitExceeded, ImageUnsuitable, OutOfSpace.
        """

    def start(self, id: str, *, progress: Progress = no_progress) -> ContainerStatus:
        """Bring it to running.  Running already: returns its status.

        On any failure nothing of the attempt is left and the state is what it was before.  Raises NotFound, Conflict (port taken,
        ``data['port']``), InvalidSpec (command does not exist in the image), OutOfSpace, LimitExceeded, EngineFault.
        """

    def stop(self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress) -> ContainerStatus:
        """Stop signal, up to ``grace_s`` (default: the spec's) for it to end, then SIGKILL.  Not running: returns its status."""

    def kill(self, id: str, signal: str = "SIGKILL") -> None:
        """Send a signal to the container's first process.  Raises Conflict when it is not running, InvalidSpec."""

    def restart(
        self, id: str, *, grace_s: float | None = None, progress: Progress = no_progress
    ) -> ContainerStatus: ...

    def remove(self, id: str, *, force: bool = False, progress: Progress = no_progress) -> None:
        """Take every trace away.  Unknown id: does nothing.  Running and not ``force``: Conflict."""

    def inspect(self, id: str) -> ContainerStatus:
        """Never waits on a lock for more than a moment.  Raises NotFound."""

    def list(self, *, tenant: str | None = None) -> tuple[ContainerStatus, ...]: ...

    def spec(self, id: str) -> ContainerSpec:
        """Raises NotFound."""

    def settle(self, id: str) -> ContainerStatus:
        """Called when a container's process may have ended: store its final counters durably, then free what it held.

        Does nothing while it runs.  The agent calls it on every exit it sees; stop, remove and reconcile call it too.
        """

    def exec(self, id: str, spec: ExecSpec) -> ExecSession:
        """Raises NotFound, Conflict (not running), InvalidSpec (no such command)."""

    def logs(
        self, id: str, *, tail: int | None = None, since: str | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """Oldest first.  ``follow`` goes on until the container has exited and the log is drained."""

    def log_file(self, id: str) -> Path:
        """Where the log is, or will be, for programs that follow it by themselves with :class:`runtime.telemetry.log.Reader`."""

    def isolation(self, id: str) -> IsolationReport:
        """Raises NotFound, Conflict (not running)."""

    # counters ----------------------------------------------------------------------------------------

    def counters(self, ids: Iterable[str] | None = None, *, live: bool = False) -> Mapping[str, Counters]:
        """One reading of each running container (of ``ids``).  Keeps descriptors open between calls.

        ``live`` is for pictures at 1 Hz of 1,000: what no picture shows (``throttled_ns``, ``oom_kills``) may be None, and the working set
        may follow the page cache with a delay of up to 5 s.
        """

    def final_readings(self, id: str | None = None) -> tuple[FinalReading, ...]:
        """Readings stored by settle and not yet acknowledged.  They outlive the container's removal."""

    def acknowledge(self, reading: FinalReading) -> None:
        """The reading is safe elsewhere; forget it."""

    # the node ----------------------------------------------------------------------------------------

    def reconcile(self) -> Reconciliation:
        """Compare what should be with what is, after a crash, an upgrade or a reboot.

        Adopts what runs, settles what ended, finishes removals, sweeps leftovers that carry this engine's instance name.
        Never kills on ambiguous evidence.
        """

    def teardown(self) -> None:
        """Remove every container, network and kernel object of this instance; images stay."""
