"""Networks: what a tenant asks for, what is, and the verbs; a facet of the engine (``engine.networks``).

Every tenant has the network ``default``, which is made with its first container, has IPv4 alone and stays.  Others have a name within
the tenant.  Containers find each other on a network by name and alias; two networks never reach each other, whosever they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

DEFAULT_NETWORK = "default"

MOST_NETWORKS = 8
"""Of one container."""


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """``subnet`` None asks for a free /24 of the engine's block; ``subnet6`` None, with ``ipv6``, for a /64 of the network's own (RFC 4193).

    ``internal``: no way out of it and no published ports; nobody but its containers and the node reaches them.
    ``parent``: flat; the containers are on this bridge of the node itself, with addresses of ``subnet`` that nobody else there
    may have, and ``gateway`` (None: no way out) is their router.  Only bridges that an admin allowed.
    """

    tenant: str
    name: str
    subnet: str | None = None
    ipv6: bool = False
    subnet6: str | None = None
    internal: bool = False
    parent: str | None = None
    gateway: str | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place on one network of its tenant.

    ``address`` and ``address6`` are fixed where they are given.  ``aliases`` are names beside the container's own; several
    containers may share one, and are all told to whoever asks for it.
    """

    network: str
    address: str | None = None
    address6: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """What an attachment has become while the container runs."""

    network: str
    address: str
    address6: str = ""
    """Empty where the network has no IPv6."""
    interface: str = ""
    """In the container: ``eth0``, ``eth1``, ..., in the order of its attachments."""


@dataclass(frozen=True, slots=True)
class Network:
    tenant: str
    name: str
    subnet: str
    gateway: str
    """Of IPv4; also who resolves names.  Empty on a flat network without one."""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    parent: str = ""
    bridge: str = ""
    """The interface on the node."""
    containers: tuple[str, ...] = ()
    """Ids of those whose specification names it, running or not; on ``default``, of those that name none."""


class Networks(Protocol):
    """Thread-safe and idempotent, as all verbs of an engine."""

    def create(self, spec: NetworkSpec) -> Network:
        """There already with the same specification: returns it.

        Raises InvalidSpec, Conflict (the name has another specification, or the subnet meets another network or a route of the node),
        LimitExceeded (no subnet is free), HostUnfit.
        """

    def inspect(self, tenant: str, name: str) -> Network:
        """Raises NotFound."""

    def list(self, tenant: str | None = None) -> tuple[Network, ...]:
        """By tenant and name; ``default`` once the tenant has had a container."""

    def remove(self, tenant: str, name: str) -> None:
        """Unknown: does nothing.  Raises Conflict when a container names it (``data['container']``), or for ``default``."""

    def prune(self, tenant: str | None = None) -> tuple[str, ...]:
        """Remove those that no container names, and tell them as ``tenant/name``."""
