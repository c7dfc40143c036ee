"""What is: images, containers and their counters, what isolates them, what a reconciliation did."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from runtime.api.health import HealthState
from runtime.api.networks import Connection
from runtime.api.spec import Limits, Port


class State(enum.StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    REMOVING = "removing"
    DAMAGED = "damaged"
    """Its files cannot be read, so nothing is known of it but who it is, or not even that; only ``remove(force=True)`` helps."""


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
    """It ended by want of memory."""
    oom_kills: int = 0
    """How many of its processes the kernel has killed for want of memory since its start; it may live on."""
    paused: bool = False
    """It is running, and every process of it is frozen."""
    reason: str = ""
    """Why it is as it is, for a person, when that is not plain from the rest: "out of memory", "supervisor lost"."""
    address: str | None = None
    """IPv4 on its first network while it runs."""
    ports: tuple[Port, ...] = ()
    """As published; every host_port is set while it runs."""
    epoch: int = 0
    """How many times it was started; counters begin anew with each."""
    restart_at: float | None = None
    """When its restart policy starts it again, seconds since the epoch; None when it does not."""
    restarts: int = 0
    """How often the policy has done that since somebody started it."""
    health: HealthState = ""
    health_output: str = ""
    """What the check that made the last change of health said."""
    labels: Mapping[str, str] = field(default_factory=dict)
    limits_at_start: Limits = field(default_factory=Limits)
    """Of this epoch; ``sizes`` tells how they changed since."""
    sizes: tuple[Size, ...] = ()
    networks: tuple[Connection, ...] = ()
    """All of them while it runs, the first included."""


@dataclass(frozen=True, slots=True)
class Counters:
    """Kernel counters of one container at one instant.  ``None`` means the kernel does not say, never 0.

    Sources: v1 ``cpuacct.usage``, ``memory.usage_in_bytes``, ``memory.stat``, ``pids.current``,
    ``blkio.throttle.io_service_bytes_recursive``, ``cpu.stat``; v2 ``cpu.stat``, ``memory.current``, ``memory.stat``,
    ``pids.current``, ``io.stat``; network from the statistics of the host's ends of the veth pairs, with host
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
class Size:
    """The limits that a running container has had from an instant on."""

    at: float
    """Wall clock; ``boottime_ns`` measures, as in :class:`Counters`."""
    boottime_ns: int
    limits: Limits


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
    """Those that the epoch began with."""
    counters: Counters
    sizes: tuple[Size, ...] = ()
    """The changes of the limits within the epoch, oldest first."""


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
    """Profile and mode of its first process, as ``slipway-1a2b3c4d (enforce)``; empty: none."""
    apparmor_missing: str = ""
    """Why there is none: a sentence."""
    seccomp_mode: int = 0
    """As seccomp(2) counts: 0 off, 1 strict, 2 a filter."""
    masked: tuple[str, ...] = ()
    """Paths of the kernel's file systems that something empty lies on."""
    read_only: tuple[str, ...] = ()
    """Paths of the kernel's file systems that cannot be written to."""
    address: str = ""
    interface: str = ""
    """The host's end of the veth pair."""
    flows: int | None = None
    """Connections that the node tracks now of those that ``address`` began; None: the kernel does not tell, or there is no address."""
    flows_most: int = 0
    """As many at once and no more, of each of its addresses; as many again that come to it."""
    terminals_most: int | None = None
    """Pseudo-terminals; None: as many as the node has."""


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
    restarted: tuple[str, ...] = ()
    """Containers that their restart policies have started again."""
    swept: tuple[str, ...] = ()
    """Leftovers without a container, each as ``kind:name`` (mount, cgroup, interface, address, port, folder)."""
