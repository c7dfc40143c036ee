"""What is: containers and their counters."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.api.attachment import Connection
from runtime.api.healthcheck import HealthState
from runtime.api.spec import Limits, Port


class State(enum.StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    REMOVING = "removing"
    DAMAGED = "damaged"
    """Its files cannot be read, so nothing is known of it but who it is, or not even that; only ``remove(force=True)`` helps."""


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
    started_boottime_ns: int | None = None
    """CLOCK_BOOTTIME in that moment; None where nobody has written it down."""
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
    started_boottime_ns: int | None = None
    """As :attr:`ContainerStatus.started_boottime_ns`: no clock that is set makes the epoch longer."""
