"""The facet :class:`runtime.api.Networks` on this node's kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager

from runtime.api import Network, NetworkSpec
from runtime.engines.native.refusals import told
from runtime.home import Home
from runtime.network.attach import TenantNetworks
from runtime.network.register import Register, Specs
from runtime.network.segments import Segment


class NativeNetworks(Register):
    def __init__(self, home: Home, networks: TenantNetworks, containers: Specs) -> None:
        super().__init__(home, networks.segments, containers)
        self._networks = networks

    def _alone(self) -> AbstractContextManager[None]:
        return self._networks.removing()

    def _take_down(self, segment: Segment) -> None:
        self._networks.take_down(segment)

    @told()
    def create(self, spec: NetworkSpec) -> Network:
        return super().create(spec)

    @told()
    def remove(self, tenant: str, name: str) -> None:
        super().remove(tenant, name)
