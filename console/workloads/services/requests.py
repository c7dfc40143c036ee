"""What a person asks for: a launch, or other limits of what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from console.catalog.models import Registry
from runtime.api import HealthCheck

MIB = 2**20


@dataclass(frozen=True, slots=True)
class PortRequest:
    container_port: int
    host_port: int | None = None
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A volume of the tenant by its name; with ``make`` there is none of that name yet, and the launch makes it."""

    volume: str
    path: str
    read_only: bool = False
    make: bool = False
    size_bytes: int | None = None
    """Of one that is made; None: as much as the node's disk has."""


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """A network of the tenant by its name."""

    network: str
    aliases: tuple[str, ...] = ()
    """Names there, beside the container's own."""
    address: str = ""
    """The IPv4 address that it always has there, as typed; empty: any that is free."""
    address6: str = ""
    """Likewise of IPv6."""


@dataclass(frozen=True, slots=True)
class LimitsRequest:
    """What can be changed while a container runs."""

    memory_bytes: int
    cpu_millis: int
    pids: int


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What the form asks for.  Exactly one of ``recipe`` (a slug) and ``image`` (a reference) is set."""

    name: str
    recipe: str = ""
    image: str = ""
    registry: Registry | None = None
    command: str = ""
    """As typed; split as a shell splits words."""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortRequest, ...] = ()
    memory_bytes: int = 256 * MIB
    cpu_millis: int = 1000
    pids: int = 256
    terminal: bool = False
    restart: str = "no"
    restart_retries: int | None = None
    """With ``on-failure`` only; None: without end."""
    labels: Mapping[str, str] = field(default_factory=dict)
    disk_bytes: int | None = None
    """None: as much as the node's disk has."""
    mounts: tuple[MountRequest, ...] = ()
    networks: tuple[NetworkRequest, ...] = ()
    """None: the tenant's ``default``."""
    health: HealthCheck | None = None
    """None: the image's own, if it has one."""
    entrypoint: str = ""
    """As ``command``; likewise with the next three: empty is the image's own."""
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    """Empty: its name."""
    read_only: bool = False
    init: bool = True

    @property
    def limits(self) -> LimitsRequest:
        return LimitsRequest(self.memory_bytes, self.cpu_millis, self.pids)
