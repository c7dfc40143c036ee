"""What is asked for: a container, a further process in one, a way into a registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from runtime.api.attachment import Attachment
from runtime.api.healthcheck import HealthCheck
from runtime.api.options import Tmpfs, Ulimit, VolumeMount
from runtime.api.restart import RestartPolicy

Protocol_ = Literal["tcp", "udp"]

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- a name for it, nothing is bound here
ANY_ADDRESS6 = "::"

ID_PATTERN = r"[a-z][a-z0-9]{2,31}"
"""Ids of containers and tenants.  Names of cgroups, mounts, sockets and interfaces derive from them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings, enforced by the container's cgroup; for the log by its supervisor, for the disk by the file system."""

    memory_bytes: int = 256 * 2**20
    cpu_millis: int = 1000
    """Thousandths of a vCPU: 1500 is one and a half processors' time."""
    pids: int = 256
    log_bytes: int = 16 * 2**20
    swap_bytes: int = 0
    """Beside the memory."""
    cpuset: str = ""
    """The processors it may run on, as the kernel lists them: ``0-2,5``.  Empty: all."""
    cpu_weight: int | None = None
    """1 to 10000: its share of a busy processor beside the tenant's other containers.  None: 100 for each vCPU of ``cpu_millis``."""
    io_weight: int | None = None
    """1 to 1000, its share of the busy disk that carries the home; None: 100."""
    read_bps: int | None = None
    """Bytes a second from that disk; likewise the next three.  On cgroup v1 writes count only when they pass by the page cache."""
    write_bps: int | None = None
    read_iops: int | None = None
    """Operations a second."""
    write_iops: int | None = None
    disk_bytes: int | None = None
    """What the container may write into its own root, file names and the like included; None: as much as the node's disk has."""
    net_rx_bps: int | None = None
    """Bits per second that reach the container, over all of its networks; None is no limit.  Likewise the next, which it sends."""
    net_tx_bps: int | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A container's port published on the node.  ``host_port`` None asks the engine to choose a free one at each start."""

    container_port: int
    protocol: Protocol_ = "tcp"
    host_port: int | None = None
    host_address: str = ANY_ADDRESS
    """As a person who publishes a port expects: reachable at every IPv4 address of the node; ``::`` is every IPv6 address."""
    host_from: int = 30_000
    host_to: int = 32_767
    """Which ones may be chosen, both within."""


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
    stdin: bool = False
    """It has an input that whoever attaches writes to; without, it reads nothing.  A terminal is an input in any case."""
    stdin_once: bool = False
    """The input ends with that of the first who attaches and ends theirs; else it stays open."""
    read_only: bool = False
    """The root; ``/run``, ``/tmp`` and ``/var/tmp`` are then in memory, with what the image has there."""
    stop_signal: str | None = None
    stop_grace_s: float = 10.0
    init: bool = True
    """A small init is the first process: it passes signals on and buries orphans.  Not beside an image's own."""
    ulimits: tuple[Ulimit, ...] = ()
    capabilities_add: tuple[str, ...] = ()
    """Of :data:`~runtime.api.options.DEFAULT_CAPABILITIES` and :data:`~runtime.api.options.GRANTABLE_CAPABILITIES`; with ``CAP_``
    or without.  What is added is kept whatever is dropped."""
    capabilities_drop: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Kernel settings of the container's own namespaces: ``net.core.somaxconn``."""
    tmpfs: tuple[Tmpfs, ...] = ()
    health: HealthCheck | None = None
    """None: the image's own, if it has one."""
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    volumes: tuple[VolumeMount, ...] = ()
    networks: tuple[Attachment, ...] = ()
    """None: the tenant's own, ``default``.  Of the first that is not internal are the default route and what published ports lead to."""


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
