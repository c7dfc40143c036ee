"""Addresses of a tenant's subnet and ports of the node, each claimed by a file."""

from __future__ import annotations

import ipaddress
import itertools
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import cast, get_args

from runtime.api import ANY_ADDRESS, ANY_ADDRESS6, Port, Protocol_
from runtime.errors import Conflict, InvalidSpec, LimitExceeded
from runtime.home import Home
from runtime.network.claims import Claims
from runtime.network.endpoint import Place
from runtime.network.segments import Segment, Segments
from runtime.network.tenants import TenantSlots

STEPS6 = 256
"""How many places a container's IPv6 address may have, should somebody fixed one that is another's number."""


def claim_of(place: Segment | Place, address: str) -> str:
    """The name of a claim on it.  What the node routes has no address twice; two flat networks' bridges may have the same, or one of those."""
    return f"{address}@{place.bridge}" if place.flat else address


def address_claims(home: Home, tenant: str) -> Claims:
    """Leases: of what runs."""
    return Claims(home.run / "addresses" / tenant)


def fixed_claims(home: Home, tenant: str) -> Claims:
    """Of what is written down, running or not (:mod:`runtime.network.holding`)."""
    return Claims(home.state / "fixed" / tenant)


def port_claims(home: Home) -> Claims:
    return Claims(home.run / "ports")


def holders(home: Home, tenant: str, claim: str) -> Iterator[str]:
    """Containers of the tenant that have the address, running or not.

    One that has had it on a flat network since a version without bridges in its claims counts on each bridge, until the first reconciliation.
    """
    both = fixed_claims(home, tenant), address_claims(home, tenant)
    yield from filter(None, (claims.owner(claim) for claims in both))
    address, flat, _ = claim.partition("@")
    earlier = [owner for claims in both if flat and (owner := claims.owner(address))]
    if earlier and not _routes(home, tenant, address):
        yield from earlier


def _routes(home: Home, tenant: str, address: str) -> bool:
    """Whether the address may be of a network of the tenant's that is not flat."""
    segments = Segments(home, TenantSlots(home))
    subnets = [
        subnet
        for one in (*segments.own(tenant), *segments.named(tenant))
        if not one.flat
        for subnet in (one.subnet, one.subnet6)
        if subnet
    ]
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(subnet) for subnet in subnets)


def all_claims(home: Home) -> Iterator[Claims]:
    """On addresses, by tenant, and on ports: of what runs."""
    folder = home.run / "addresses"
    for tenant in sorted(folder.iterdir()) if folder.is_dir() else ():
        yield address_claims(home, tenant.name)
    yield port_claims(home)


def free_all(home: Home, container: str) -> None:
    """All that it has, whatever that is."""
    for claims in all_claims(home):
        claims.free_all(container)


def take_address(home: Home, segment: Segment, container: str, fixed: str | None = None, index: int = 0) -> str:
    """``fixed``, else the lowest host address after the gateway that is free and nobody's.  Raises Conflict, LimitExceeded."""
    if fixed is not None:
        return _fixed(home, segment, fixed, container, f"networks[{index}].address")
    held = fixed_claims(home, segment.tenant)
    taken = {*address_claims(home, segment.tenant).names(), *held.names(), claim_of(segment, segment.gateway)}
    for address in map(str, itertools.islice(ipaddress.ip_network(segment.subnet).hosts(), 1, None)):
        if claim_of(segment, address) not in taken and _lease(home, segment, address, container):
            return address
    raise LimitExceeded(
        f"The tenant's network {segment.subnet} has no free address.", hint="Remove a container first.", field="tenant"
    )


def take_address6(
    home: Home, segment: Segment, container: str, address: str, fixed: str | None = None, index: int = 0
) -> str:
    """``fixed``, else the one whose number in its subnet is that of ``address``; empty on a network without IPv6."""
    if fixed is not None:
        fixed = str(ipaddress.IPv6Address(fixed))
        return _fixed(home, segment, fixed, container, f"networks[{index}].address6")
    if not segment.subnet6:
        return ""
    subnet = ipaddress.IPv6Network(segment.subnet6)
    number = int(ipaddress.ip_address(address)) - int(ipaddress.ip_network(segment.subnet).network_address)
    for step in range(STEPS6):
        found = str(subnet[number + step * 2**16])
        if _lease(home, segment, found, container):
            return found
    raise LimitExceeded("The network has no free IPv6 address.", hint="Remove a container first.", field="networks")


def _lease(home: Home, segment: Segment, address: str, container: str) -> bool:
    """Unless another has it or holds it, be it since this moment."""
    leased, name = address_claims(home, segment.tenant), claim_of(segment, address)
    if not leased.take(name, container):
        return False
    if set(holders(home, segment.tenant, name)) <= {container}:
        return True
    leased.free(name, container)
    return False


def _fixed(home: Home, segment: Segment, address: str, container: str, field: str) -> str:
    if not _lease(home, segment, address, container):
        raise Conflict(f"The address {address} is taken.", hint="Choose another, or none.", field=field)
    return address


def is_ipv6(address: str) -> bool:
    return ":" in address


def _claim_name(port: Port, number: int) -> str:
    return f"{port.protocol}-{port.host_address}-{number}"


def claim_of_port(port: Port) -> str:
    """Of one whose host port is set."""
    return _claim_name(port, port.host_port or 0)


def claimed_ports(home: Home, container: str) -> tuple[Port, ...]:
    """Of the node, that it has; to which ports of its own they lead is not told (0)."""
    found = [_claimed(name) for owner, name in port_claims(home).holdings() if owner == container]
    return tuple(port for port in found if port is not None)


def _claimed(name: str) -> Port | None:
    """None: it is no claim on a port, whoever wrote it."""
    protocol, _, rest = name.partition("-")
    address, _, number = rest.rpartition("-")
    try:
        ipaddress.ip_address(address)
        host_port = int(number)
    except ValueError:
        return None
    if protocol not in get_args(Protocol_) or not 0 < host_port < 2**16:
        return None
    return Port(0, cast("Protocol_", protocol), host_port, address)


def _overlapping(claims: Claims, port: Port, number: int, owner: str | None) -> bool:
    """Another container's claim (None: anybody's) on the same port of an address that includes, or is included in, ours."""
    for name in claims.names():
        other = _claimed(name)
        if other is None or (other.protocol, other.host_port) != (port.protocol, number):
            continue
        same = is_ipv6(other.host_address) == is_ipv6(port.host_address)
        either = {other.host_address, port.host_address}
        if same and (len(either) == 1 or {ANY_ADDRESS, ANY_ADDRESS6} & either) and claims.owner(name) != owner:
            return True
    return False


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    if not is_ipv6(address):
        return socket.socket(socket.AF_INET, kind)
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _bindable(port: Port, number: int) -> bool:
    """Whether no program of the node listens there."""
    kind = socket.SOCK_STREAM if port.protocol == "tcp" else socket.SOCK_DGRAM
    with _socket(port.host_address, kind) as probe:
        if port.protocol == "tcp":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past connections in TIME_WAIT do not count
        try:
            probe.bind((port.host_address, number))
            if port.protocol == "tcp":
                probe.listen(1)
        except OSError:
            return False
    return True


def _check_address(port: Port, index: int) -> None:
    """Raises InvalidSpec when the address is not this node's."""
    with _socket(port.host_address, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((port.host_address, 0))
        except OSError:
            raise InvalidSpec(
                f"{port.host_address} is not an address of this node.",
                hint="Use 0.0.0.0 for all addresses of the node.",
                field=f"ports[{index}].host_address",
            ) from None


def take_ports(home: Home, ports: tuple[Port, ...], container: str) -> tuple[Port, ...]:
    """Each with its host port set.  Raises Conflict or InvalidSpec naming the port; then none is taken."""
    claims = port_claims(home)
    taken: dict[int, Port] = {}
    with home.lock("node-ports"):
        try:
            # what is chosen is chosen last, as it could be what another asks for
            for index, port in sorted(enumerate(ports), key=lambda one: one[1].host_port is None):
                _check_address(port, index)
                taken[index] = _take_port(claims, port, index, container)
        except Exception:
            free_ports(home, tuple(taken.values()), container)
            raise
    return tuple(taken[index] for index in range(len(ports)))


def _take_port(claims: Claims, port: Port, index: int, container: str) -> Port:
    if port.host_port is not None:
        free = not _overlapping(claims, port, port.host_port, container) and _bindable(port, port.host_port)
        if not free or not claims.take(_claim_name(port, port.host_port), container):
            raise Conflict(
                f"Port {port.host_port}/{port.protocol} of the node is taken.",
                hint="Choose another host port, or leave it empty to get a free one.",
                field=f"ports[{index}].host_port",
                port=port.host_port,
            )
        return port
    among = range(port.host_from, port.host_to + 1)
    start = random.randrange(len(among))  # noqa: S311 -- spreads, guards nothing
    for number in (*among[start:], *among[:start]):
        free = not _overlapping(claims, port, number, None) and _bindable(port, number)  # nor one of its own others
        if free and claims.take(_claim_name(port, number), container):
            return replace(port, host_port=number)
    raise Conflict(
        f"No port of the node from {port.host_from} to {port.host_to} is free.",
        hint="Remove a container that publishes ports.",
        field=f"ports[{index}]",
    )


def free_ports(home: Home, ports: tuple[Port, ...], container: str) -> None:
    claims = port_claims(home)
    for port in ports:
        if port.host_port is not None:
            claims.free(claim_of_port(port), container)
