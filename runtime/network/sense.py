"""Whether what a state file of the networks says can be: what is in it goes into rules, names of interfaces and paths."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from runtime.api import ID_PATTERN, MOST_NETWORKS
from runtime.encoding import check
from runtime.home import Home

if TYPE_CHECKING:
    from runtime.network.endpoint import Endpoint, Place
    from runtime.network.segments import Segment

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
ALIAS = re.compile(r"[A-Za-z0-9._-]{1,255}")
INTERFACE = re.compile(r"[A-Za-z0-9_.@:-]{1,15}")
INSIDE = re.compile(r"eth[0-9]")
MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


def check_endpoint(home: Home, container: str, made: Endpoint) -> None:
    """Raises TypeError, ValueError."""
    check(made)
    _require(made.container == container and bool(made.places))
    _require(all(map(re.compile(ID_PATTERN).fullmatch, (made.container, made.tenant))))
    _require(bool(ALIAS.fullmatch(made.name)))
    interfaces = {home.veth(container, number) for number in range(MOST_NETWORKS)}
    for place in made.places:
        _require(place.interface in interfaces)
        _check_place(place)
    for port in made.ports:
        ip_address(port.host_address)
        _require(all(0 < number < 2**16 for number in (port.container_port, port.host_port or 1)))


def _check_place(place: Place) -> None:
    _require(bool(NAME.fullmatch(place.network) and INTERFACE.fullmatch(place.bridge)))
    _require(bool(INSIDE.fullmatch(place.inside) and MAC.fullmatch(place.mac)))
    _require(all(map(ALIAS.fullmatch, place.aliases)))
    ip_network((place.address, place.prefix), strict=False)
    for address in filter(None, (place.gateway, place.address6, place.gateway6, place.names)):
        ip_address(address)
    _require(0 <= place.prefix6 <= 128)


def check_segment(segment: Segment) -> None:
    """Likewise."""
    check(segment)
    _require(bool(re.fullmatch(ID_PATTERN, segment.tenant) and NAME.fullmatch(segment.name)))
    _require(bool(INTERFACE.fullmatch(segment.bridge)))
    for subnet in filter(None, (segment.subnet, segment.subnet6)):
        ip_network(subnet)
    for gateway in filter(None, (segment.gateway, segment.gateway6)):
        ip_address(gateway)
    _require(bool(segment.subnet) and (segment.flat or bool(segment.gateway)))


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("it cannot be")
