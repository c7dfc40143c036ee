"""What is asked for: a container, a further process in one, a way into a registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Protocol_ = Literal["tcp", "udp"]

ANY_ADDRESS = "0.0.0.0"  # noqa: S104 -- a name for it, nothing is bound here

ID_PATTERN = r"[a-z][a-z0-9]{2,31}"
"""Ids of containers and tenants.  Names of cgroups, mounts, sockets and interfaces derive from them."""


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
