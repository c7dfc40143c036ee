"""Onto a network and off one: what the specification becomes, and what is refused before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runtime.api import DEFAULT_NETWORK, MOST_NETWORKS, Attachment, Connection, ContainerSpec
from runtime.errors import Conflict, LimitExceeded
from runtime.network.placement import leads
from runtime.network.segments import Segment, Segments
from runtime.validation_networks import check_attachments, check_fixed


def attachments_of(spec: ContainerSpec) -> tuple[Attachment, ...]:
    return spec.networks or (Attachment(DEFAULT_NETWORK),)


def networks_of(spec: ContainerSpec) -> tuple[str, ...]:
    return tuple(one.network for one in attachments_of(spec))


def with_network(spec: ContainerSpec, asked: Attachment) -> ContainerSpec:
    return replace(spec, networks=(*attachments_of(spec), asked))


def without_network(spec: ContainerSpec, network: str) -> ContainerSpec:
    return replace(spec, networks=tuple(one for one in spec.networks if one.network != network))


def joinable(segments: Segments, spec: ContainerSpec, asked: Attachment) -> Segment | None:
    """None: it is on that network already, so.  Raises InvalidSpec, NotFound, Conflict, LimitExceeded."""
    present = next((one for one in attachments_of(spec) if one.network == asked.network), None)
    if present == asked:
        return None
    if present is not None:
        raise Conflict(
            f"The container is on the network {asked.network!r} already.",
            hint="Disconnect it first to give it another place there.",
            field="network",
        )
    if len(networks_of(spec)) >= MOST_NETWORKS:
        raise LimitExceeded(
            f"A container has at most {MOST_NETWORKS} networks.", hint="Disconnect it from one first.", field="network"
        )
    with_one = with_network(spec, asked)
    check_attachments(with_one)
    index = len(with_one.networks) - 1
    segment = segments.get(spec.tenant, asked.network, "network")
    check_fixed(segment, asked, index)
    return segment


def leavable(segments: Segments, spec: ContainerSpec, network: str) -> bool:
    """False: it is not on that network.  Raises NotFound (there is none), Conflict."""
    names = networks_of(spec)
    if network not in names:
        segments.get(spec.tenant, network)
        return False
    if len(names) == 1:
        raise Conflict(
            f"The network {network!r} is the container's last.", hint="Connect it to another first.", field="network"
        )
    if spec.ports and leads([segments.get(spec.tenant, name) for name in names]).name == network:
        raise Conflict(
            f"The container's published ports lead through the network {network!r}.",
            hint="Keep it there, or launch it anew without published ports.",
            field="network",
        )
    return True


def told(network: str, connections: Sequence[Connection]) -> dict[str, str]:
    """Of a container's place, as its event has it."""
    place = next((one for one in connections if one.network == network), Connection(network, "", "", ""))
    return {"network": network, "address": place.address, "address6": place.address6}
