"""The facet :class:`runtime.api.Networks` on files alone: the same subnets, addresses and refusals, and nothing in the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from runtime.api import Attachment, ContainerSpec, ContainerStatus, EventKind, State
from runtime.engines.fake.controls import Owner
from runtime.engines.native.records import Record, Records
from runtime.errors import EngineFault
from runtime.network import addresses, endpoint, holding, membership, placement
from runtime.network.endpoint import Endpoint
from runtime.network.register import Register, Specs
from runtime.network.segments import Segments
from runtime.network.tenants import TenantSlots


class FakeNetworks(Register):
    def __init__(self, engine: Owner, records: Records, containers: Specs) -> None:
        super().__init__(engine.home, Segments(engine.home, TenantSlots(engine.home)), containers)
        self._engine = engine
        self._records = records

    def _alone(self) -> AbstractContextManager[None]:
        return self._home.lock("all")

    # a container's places --------------------------------------------------------------------------------

    def check(self, spec: ContainerSpec) -> None:
        """As the native engine does before it writes a container down."""
        placement.wanted(self.segments, spec)

    def hold(self, spec: ContainerSpec) -> None:
        """Its fixed addresses are its own from here on."""
        holding.hold(self._home, spec, self._records.name)

    def let_go(self, id: str) -> None:
        """It is removed."""
        self.release(id)
        holding.let_go_of_all(self._home, id)

    def place(self, spec: ContainerSpec) -> Endpoint:
        return placement.reserve(self._home, spec, placement.wanted(self.segments, spec))

    def release(self, container: str) -> None:
        try:
            made = endpoint.load(self._home, container)
        except EngineFault:  # it is damaged, and all that it has is claims
            made = None
            addresses.free_all(self._home, container)
            endpoint.forget(self._home, container)
        if made is not None:
            placement.release(self._home, made)

    def connect(self, id: str, attachment: Attachment) -> ContainerStatus:
        with self._alone():
            spec = self._records.spec(id)
            segment = membership.joinable(self.segments, spec, attachment)
            if segment is not None:
                wanted = membership.with_network(spec, attachment)
                index = len(wanted.networks) - 1
                holding.hold(self._home, wanted, self._records.name)
                with contextlib.ExitStack() as undo:
                    undo.callback(holding.let_go, self._home, spec, (attachment,))
                    record = self._change(
                        wanted, lambda made: placement.add(self._home, made, segment, attachment, index)
                    )
                    undo.pop_all()
                self._engine.tell(EventKind.CONNECTED, id, **membership.told(attachment.network, record.networks))
        return self._engine.inspect(id)

    def disconnect(self, id: str, network: str) -> ContainerStatus:
        with self._alone():
            spec = self._records.spec(id)
            if membership.leavable(self.segments, spec, network):
                wanted = membership.without_network(spec, network)
                self._change(wanted, lambda made: placement.drop(self._home, made, network))
                holding.let_go(self._home, spec, [one for one in spec.networks if one.network == network])
                self._engine.tell(EventKind.DISCONNECTED, id, network=network)
        return self._engine.inspect(id)

    def _change(self, wanted: ContainerSpec, change: Callable[[Endpoint], Endpoint]) -> Record:
        record, made = self._records.record(wanted.id), endpoint.load(self._home, wanted.id)
        if record.state is State.RUNNING and made is not None:
            changed = change(made)
            endpoint.save(self._home, changed)
            record = replace(record, networks=changed.connections, address=changed.address)
            self._records.save(wanted.id, record)
        self._records.save_spec(wanted)
        return record
