"""The facet :class:`runtime.api.Networks` on files alone: the same subnets, addresses and refusals, and nothing in the kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager

from runtime.api import ContainerSpec
from runtime.home import Home
from runtime.network import endpoint, placement
from runtime.network.endpoint import Endpoint
from runtime.network.register import Register, Specs
from runtime.network.segments import Segments
from runtime.network.tenants import TenantSlots


class FakeNetworks(Register):
    def __init__(self, home: Home, containers: Specs) -> None:
        super().__init__(home, Segments(home, TenantSlots(home)), containers)

    def _alone(self) -> AbstractContextManager[None]:
        return self._home.lock("all")

    def check(self, spec: ContainerSpec) -> None:
        """As the native engine does before it writes a container down."""
        placement.wanted(self.segments, spec)

    def connect(self, spec: ContainerSpec) -> Endpoint:
        return placement.reserve(self._home, spec, placement.wanted(self.segments, spec))

    def disconnect(self, container: str) -> None:
        made = endpoint.load(self._home, container)
        if made is not None:
            placement.release(self._home, made)
