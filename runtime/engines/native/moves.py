"""Onto a network and off one, as events: told right after the deed, or once by whoever finishes what a crash cut short."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.api import Connection, ContainerSpec, EventKind
from runtime.engines.native.records import Record
from runtime.network import membership
from runtime.telemetry.journal import Journal


def connected(journal: Journal, spec: ContainerSpec, network: str, connections: Sequence[Connection]) -> None:
    data = membership.told(network, connections)
    journal.tell(EventKind.CONNECTED, spec.id, tenant=spec.tenant, name=spec.name, data=data)


def disconnected(journal: Journal, spec: ContainerSpec, network: str) -> None:
    journal.tell(EventKind.DISCONNECTED, spec.id, tenant=spec.tenant, name=spec.name, data={"network": network})


def retell(journal: Journal, spec: ContainerSpec, record: Record, connections: Sequence[Connection] = ()) -> None:
    """The networks that came and went since its record was written, each unless it was told; before the record follows.

    The caller holds the container's lock, which whoever tells of it holds.  Of what does not run the record has no networks.
    """
    if not record.networks:
        return
    before, now = [one.network for one in record.networks], membership.networks_of(spec)
    for network in now:
        if network not in before and journal.last_move(spec.id, network) is not EventKind.CONNECTED:
            connected(journal, spec, network, connections)
    for network in before:
        if network not in now and journal.last_move(spec.id, network) is not EventKind.DISCONNECTED:
            disconnected(journal, spec, network)
