"""Refuse a network, or a container's place on one, that cannot be, naming the field."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Protocol

from runtime.api import DEFAULT_NETWORK, ID_PATTERN, MOST_NETWORKS
from runtime.errors import InvalidSpec

if TYPE_CHECKING:
    from runtime.api import Attachment, ContainerSpec, Limits, NetworkSpec, Port

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
UNIQUE_LOCAL = ipaddress.IPv6Network("fc00::/7")
WIDEST, NARROWEST = 16, 29
LENGTH6 = 64
LEAST_BPS, MOST_BPS = 8_000, 34_000_000_000
"""A bucket's rate is 32 bits of bytes per second (tc-tbf(8))."""
MOST_PORTS = 1024


class Lies(Protocol):
    """Where a network lies, as :class:`runtime.api.Network` tells it."""

    @property
    def name(self) -> str: ...
    @property
    def subnet(self) -> str: ...
    @property
    def gateway(self) -> str: ...
    @property
    def subnet6(self) -> str: ...
    @property
    def gateway6(self) -> str: ...


def check_network(spec: NetworkSpec) -> None:
    """Raises InvalidSpec for the first thing that is wrong."""
    if not re.fullmatch(ID_PATTERN, spec.tenant):
        raise InvalidSpec(
            f"{spec.tenant!r} is not an id.",
            hint="Use 3 to 32 lower-case letters and digits, a letter first.",
            field="tenant",
        )
    check_name(spec.name)
    if spec.name == DEFAULT_NETWORK:
        raise InvalidSpec("Every tenant has the network 'default' already.", hint="Choose another name.", field="name")
    _check_subnet(spec)
    _check_subnet6(spec)
    if spec.parent is not None:
        _check_flat(spec)
    elif spec.gateway is not None:
        raise InvalidSpec("Only a flat network is given a gateway.", hint="Leave it empty.", field="gateway")


def check_name(name: str, field: str = "name") -> None:
    if not NAME.fullmatch(name):
        raise InvalidSpec(
            f"{name!r} is not a valid name.",
            hint="Use up to 63 lower-case letters, digits and hyphens, a letter or digit first and last.",
            field=field,
        )


def _check_subnet(spec: NetworkSpec) -> None:
    if spec.subnet is None:
        return
    try:
        subnet = ipaddress.IPv4Network(spec.subnet)
    except ValueError:
        raise InvalidSpec(
            f"{spec.subnet!r} is not an IPv4 subnet.", hint="Write one such as 10.20.30.0/24.", field="subnet"
        ) from None
    if not WIDEST <= subnet.prefixlen <= NARROWEST:
        raise InvalidSpec(
            f"{subnet} is too large or too small.", hint="Choose a length from /16 to /29.", field="subnet"
        )
    if not any(subnet.subnet_of(block) for block in PRIVATE):
        raise InvalidSpec(
            f"{subnet} is not private.",
            hint="Choose one in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16.",
            field="subnet",
        )


def _check_subnet6(spec: NetworkSpec) -> None:
    if spec.subnet6 is None:
        return
    try:
        subnet = ipaddress.IPv6Network(spec.subnet6)
    except ValueError:
        raise InvalidSpec(
            f"{spec.subnet6!r} is not an IPv6 subnet.", hint="Write one such as fd12:3456:789a:1::/64.", field="subnet6"
        ) from None
    if subnet.prefixlen != LENGTH6 or not subnet.subnet_of(UNIQUE_LOCAL):
        raise InvalidSpec(
            f"{subnet} is not a /64 of unique local addresses.", hint="Choose a /64 in fd00::/8.", field="subnet6"
        )


def _check_flat(spec: NetworkSpec) -> None:
    if spec.subnet is None:
        raise InvalidSpec(
            "A flat network needs the subnet of its bridge.", hint="Give the part of it that is free.", field="subnet"
        )
    if spec.internal or spec.ipv6 or spec.subnet6:
        raise InvalidSpec(
            "A flat network is neither internal nor has it IPv6.", hint="Choose one of them.", field="parent"
        )
    if spec.gateway is None:
        return
    try:
        gateway = ipaddress.IPv4Address(spec.gateway)
    except ValueError:
        raise InvalidSpec(
            f"{spec.gateway!r} is not an IPv4 address.", hint="Give the router's.", field="gateway"
        ) from None
    if gateway not in ipaddress.IPv4Network(spec.subnet):
        raise InvalidSpec(
            f"The gateway {gateway} is not in the subnet.", hint="Give the router's address in it.", field="gateway"
        )


def check_attachments(spec: ContainerSpec) -> None:
    """Of the container's networks.  Raises InvalidSpec."""
    if len(spec.networks) > MOST_NETWORKS:
        raise InvalidSpec(f"A container has at most {MOST_NETWORKS} networks.", hint="Give fewer.", field="networks")
    for index, one in enumerate(spec.networks):
        check_name(one.network, f"networks[{index}].network")
        if any(one.network == other.network for other in spec.networks[:index]):
            raise InvalidSpec(
                f"The network {one.network!r} is given twice.", hint="Give it once.", field=f"networks[{index}].network"
            )
        _check_place(one, index)


def check_bandwidth(limits: Limits) -> None:
    """Raises InvalidSpec."""
    for value, field in ((limits.net_rx_bps, "net_rx_bps"), (limits.net_tx_bps, "net_tx_bps")):
        if value is not None and not LEAST_BPS <= value <= MOST_BPS:
            raise InvalidSpec(
                "The bandwidth is not from 8 kbit/s to 34 Gbit/s.", hint="Choose another.", field=f"limits.{field}"
            )


def _check_place(one: Attachment, index: int) -> None:
    for alias in one.aliases:
        check_name(alias, f"networks[{index}].aliases")
    if one.address is not None and _version(one.address) != 4:
        raise InvalidSpec(
            f"{one.address!r} is not an IPv4 address.",
            hint="Give one of the network.",
            field=f"networks[{index}].address",
        )
    if one.address6 is not None and _version(one.address6) != 6:
        raise InvalidSpec(
            f"{one.address6!r} is not an IPv6 address.",
            hint="Give one of the network.",
            field=f"networks[{index}].address6",
        )


def check_fixed(network: Lies, wanted: Attachment, index: int) -> None:
    """Raises InvalidSpec when an address that is asked for, and is one, cannot be a container's on this network."""
    pairs = (
        (wanted.address, network.subnet, network.gateway, "address"),
        (wanted.address6, network.subnet6, network.gateway6, "address6"),
    )
    for address, subnet, gateway, field in pairs:
        if address is not None:
            _check_usable(address, network.name, subnet, gateway, f"networks[{index}].{field}")


def _check_usable(address: str, name: str, subnet: str, gateway: str, field: str) -> None:
    if not subnet or ipaddress.ip_address(address) not in ipaddress.ip_network(subnet):
        raise InvalidSpec(
            f"{address} is not an address for a container on the network {name!r}.",
            hint=f"Choose one in {subnet}." if subnet else "The network has no IPv6.",
            field=field,
        )
    lies = ipaddress.ip_network(subnet)
    own = {str(lies.network_address), str(lies[1]), str(lies.broadcast_address), gateway}
    if str(ipaddress.ip_address(address)) in own:
        raise InvalidSpec(
            f"The network {name!r} keeps the address {address} for itself.",
            hint=f"Choose another in {subnet}: not one of its first two, its last or its gateway's.",
            field=field,
        )


def _version(address: str) -> int:
    """0: it is no address.  One with a zone (``fd00::1%eth0``) means something on one interface of one host alone."""
    try:
        return 0 if "%" in address else ipaddress.ip_address(address).version
    except ValueError:
        return 0


def check_host_address(port: Port, index: int) -> None:
    """Of the node, where a port is published.  Raises InvalidSpec."""
    field = f"ports[{index}].host_address"
    if not _version(port.host_address):
        raise InvalidSpec(
            f"{port.host_address!r} is not an IP address.",
            hint="Use 0.0.0.0 for all IPv4 addresses of the node, :: for all of IPv6.",
            field=field,
        )
    address = ipaddress.ip_address(port.host_address)
    if address.version == 6 and (address.is_link_local or address.is_loopback or address.ipv4_mapped):
        raise InvalidSpec(
            f"A port cannot be published at {address}.",
            hint="Use :: or a global IPv6 address of the node; 127.0.0.1 for the node alone.",
            field=field,
        )
    if str(address) != port.host_address:
        raise InvalidSpec(f"{port.host_address} is not written short.", hint=f"Write it as {address}.", field=field)
