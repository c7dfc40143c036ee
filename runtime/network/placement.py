"""Where a container is while it runs: addresses and host ports, claimed and written down together, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from runtime import logs
from runtime.api import DEFAULT_NETWORK, MOST_NETWORKS, Attachment, Connection, ContainerSpec, Port
from runtime.errors import EngineFault, InvalidSpec
from runtime.failpoint import failpoint
from runtime.home import Home, decoding
from runtime.network import addresses, endpoint
from runtime.network.endpoint import Endpoint, Place, mac_of
from runtime.network.names import serves
from runtime.network.segments import Segment, Segments
from runtime.network.sense import check_endpoint

logger = logs.of(__name__)

Wanted = Sequence[tuple[Segment, Attachment]]


def wanted(segments: Segments, spec: ContainerSpec) -> Wanted:
    """The networks that a container is to be on.  Raises NotFound; InvalidSpec when a fixed address is none of its network's."""
    from runtime.validation_networks import check_fixed  # a removal asks for nothing

    found = []
    for index, one in enumerate(spec.networks or (Attachment(DEFAULT_NETWORK),)):
        segment = segments.get(spec.tenant, one.network, f"networks[{index}].network")
        check_fixed(segment, one, index)
        found.append((segment, one))
    check_published(spec, [segment for segment, _ in found])
    return found


def leads(segments: Sequence[Segment]) -> Segment:
    """The one that has the way out and the published ports."""
    return next((one for one in segments if one.gateway and not one.internal), segments[0])


def check_published(spec: ContainerSpec, segments: Sequence[Segment]) -> None:
    """Raises InvalidSpec for a port that no network of the container leads to."""
    main = leads(segments)
    for index, port in enumerate(spec.ports):
        if main.internal or main.flat:
            raise InvalidSpec(
                "None of the container's networks can publish a port.",
                hint="Put a network first that is neither internal nor flat.",
                field=f"ports[{index}]",
            )
        if addresses.is_ipv6(port.host_address) and not main.subnet6:
            raise InvalidSpec(
                f"The network {main.name!r} has no IPv6, so no IPv6 address leads to the container.",
                hint="Publish at an IPv4 address, or use a network with IPv6.",
                field=f"ports[{index}].host_address",
            )


def reserve(home: Home, spec: ContainerSpec, networks: Wanted) -> Endpoint:
    """Raises Conflict, LimitExceeded, InvalidSpec; then nothing is reserved."""
    ports = addresses.take_ports(home, spec.ports, spec.id)
    try:
        places = tuple(_place(home, spec.id, number, *one, number) for number, one in enumerate(networks))
        limits = spec.limits
        made = Endpoint(spec.id, spec.tenant, spec.name, places, ports, limits.net_rx_bps, limits.net_tx_bps)
        endpoint.save(home, made)
    except Exception:
        addresses.free_ports(home, ports, spec.id)
        addresses.address_claims(home, spec.tenant).free_all(spec.id)
        raise
    return made


def add(home: Home, made: Endpoint, segment: Segment, asked: Attachment, index: int) -> Endpoint:
    """With one place more, whose addresses are claimed; written down by the caller.  ``index`` is the attachment's in the specification.

    Raises Conflict, LimitExceeded; then nothing is claimed.
    """
    has = {place.interface for place in made.places}
    number = next(one for one in range(MOST_NETWORKS) if home.veth(made.container, one) not in has)
    try:
        place = _place(home, made.container, number, segment, asked, index)
    except Exception:
        free_unplaced(home, made)
        raise
    failpoint("connect.claimed")
    return replace(made, places=(*made.places, place))


def drop(home: Home, made: Endpoint, network: str) -> Endpoint:
    """Without its place there; written down before the addresses are given back."""
    left = replace(made, places=tuple(place for place in made.places if place.network != network))
    endpoint.save(home, left)
    failpoint("disconnect.dropped")
    free_unplaced(home, left)
    return left


def free_unplaced(home: Home, made: Endpoint) -> tuple[str, ...]:
    """Give back what the container has claimed and has no place with; the caller holds its lock."""
    claims = addresses.address_claims(home, made.tenant)
    placed = set(_claims(made))
    unplaced = [name for owner, name in claims.holdings() if owner == made.container and name not in placed]
    return tuple(name for name in unplaced if claims.free(name, made.container))


def claim(home: Home, made: Endpoint) -> tuple[str, ...]:
    """What its places and ports should have and have not, as of an earlier version; returns those that another has."""
    claims, ports = addresses.address_claims(home, made.tenant), addresses.port_claims(home)
    others = [one for one in _claims(made) if not claims.take(one, made.container)]
    published = [addresses.claim_of_port(port) for port in made.ports if port.host_port is not None]
    return (*others, *(one for one in published if not ports.take(one, made.container)))


def _claims(made: Endpoint) -> list[str]:
    return [
        addresses.claim_of(place, address)
        for place in made.places
        for address in (place.address, place.address6)
        if address
    ]


def strays(home: Home) -> tuple[str, ...]:
    """Containers of whose claims one has no place: somebody is at work with them, or a crash was; or their file is damaged."""
    placed = {(one.tenant, one.container, claim) for one in readable(home) for claim in _claims(one)}
    folder = home.run / "addresses"
    tenants = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    held = {(tenant, *one) for tenant in tenants for one in addresses.address_claims(home, tenant).holdings()}
    return tuple(sorted({container for _, container, _ in held - placed}))


def readable(home: Home) -> Iterator[Endpoint]:
    """Without those whose files are damaged: they hold up nothing of the others."""
    for container in endpoint.containers(home):
        try:
            made = endpoint.load(home, container)
        except EngineFault as fault:
            logger.warning("nobody knows the places of %s on its networks: %s", container, fault)
        else:
            if made is not None:
                yield made


def rebuilt(
    home: Home, segments: Segments, spec: ContainerSpec, has: Sequence[Connection], ports: tuple[Port, ...]
) -> Endpoint:
    """As it was written down for a container that runs, by its specification and what its record says that it ``has``.

    Raises EngineFault: they do not say it.
    """
    asked = {one.network: one for one in spec.networks or (Attachment(DEFAULT_NETWORK),)}
    places = []
    for one in has:
        segment, number = segments.get(spec.tenant, one.network), int(one.interface.removeprefix("eth") or 0)
        aliases = asked[one.network].aliases if one.network in asked else ()
        places.append(_made(home, spec.id, number, segment, aliases, one.address, one.address6))
    made = Endpoint(
        spec.id, spec.tenant, spec.name, tuple(places), ports, spec.limits.net_rx_bps, spec.limits.net_tx_bps
    )
    with decoding(endpoint.file_of(home, spec.id), hint="Restart the container."):
        check_endpoint(home, spec.id, made)
    return made


def _place(home: Home, container: str, number: int, segment: Segment, asked: Attachment, index: int) -> Place:
    address = addresses.take_address(home, segment, container, asked.address, index)
    address6 = addresses.take_address6(home, segment, container, address, asked.address6, index)
    return _made(home, container, number, segment, asked.aliases, address, address6)


def _made(
    home: Home, container: str, number: int, segment: Segment, aliases: tuple[str, ...], address: str, address6: str
) -> Place:
    return Place(
        network=segment.name,
        bridge=segment.bridge,
        interface=home.veth(container, number),
        inside=f"eth{number}",
        mac=mac_of(f"{container}/{number}" if number else container),
        address=address,
        prefix=segment.prefix,
        gateway=segment.gateway,
        address6=address6,
        prefix6=segment.prefix6,
        gateway6=segment.gateway6,
        internal=segment.internal,
        flat=segment.flat,
        aliases=aliases,
        names=segment.gateway if serves(segment) else "",
    )


def release(home: Home, made: Endpoint) -> None:
    """The endpoint's file goes last: what a crash leaves is found by it."""
    addresses.free_ports(home, made.ports, made.container)
    claims = addresses.address_claims(home, made.tenant)
    for claim in _claims(made):
        claims.free(claim, made.container)
    failpoint("release.freed")
    endpoint.forget(home, made.container)
