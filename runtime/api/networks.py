"""Networks: what a tenant asks for, what is, and the verbs; a facet of the engine (``engine.networks``).

Every tenant has the network ``default``, which is made with its first container, has IPv4 alone and stays.  Others have a name within
the tenant.  Containers find each other on a network by name and alias; two networks never reach each other, whosever they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runtime.api.attachment import Attachment
    from runtime.api.status import ContainerStatus


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

    def connect(self, id: str, attachment: Attachment) -> ContainerStatus:
        """Put a container on one more network of its tenant, durably, all or none; one that runs is on it at once, and its peers there know its names.

        Its place is as at launch: addresses, names, rules against spoofing, its bandwidth, which it shares with its others.  Its way out
        and its published ports stay where they are; one that had no way out has it there.  On it already with an equal attachment: returns its status.

        Raises NotFound (container; network, if the tenant has none of that name), InvalidSpec (``networks[n]…``, the place that it would have),
        Conflict (on it already with another attachment; the address is taken; the container is being removed), LimitExceeded,
        EngineFault (somebody has taken away an interface that it has); then all is as it was.  Names and the way out that the kernel refuses
        once it is on the network are no error: reconciliation sees to them.
        """

    def disconnect(self, id: str, network: str) -> ContainerStatus:
        """Take a container off a network, durably.  What went over its interface stays counted.  Not on it: returns its status.

        Its way out goes over to the next network that has one.  Its last network it keeps: a container that names none is on ``default``.
        Raises NotFound, Conflict (its last one; its published ports lead through it; the container is being removed), EngineFault (as connect;
        or the kernel would not take the interface away: a repeat or the next reconciliation goes on).
        """

    def prune(self, tenant: str | None = None) -> tuple[str, ...]:
        """Remove those that no container names, and tell them as ``tenant/name``."""
