"""The facet :class:`runtime.api.Networks` on this node's kernel."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from runtime.api import Attachment, ContainerSpec, ContainerStatus, Network, NetworkSpec, State
from runtime.engines.native import records
from runtime.engines.native.lifecycle import Lifecycle
from runtime.engines.native.records import Record
from runtime.engines.native.refusals import told
from runtime.errors import Conflict
from runtime.home import Home
from runtime.network import membership
from runtime.network.register import Register, Specs
from runtime.network.segments import Segment

LOCK_S = 90.0
Settled = Callable[[str], tuple[ContainerSpec, Record]]
"""Under the lock: what is true now."""


class NativeNetworks(Register):
    def __init__(self, home: Home, lifecycle: Lifecycle, containers: Specs, settled: Settled) -> None:
        super().__init__(home, lifecycle.networks.segments, containers)
        self._lifecycle = lifecycle
        self._networks = lifecycle.networks
        self._settled = settled

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

    # a container's place ---------------------------------------------------------------------------------

    @told()
    def connect(self, id: str, attachment: Attachment) -> ContainerStatus:
        with self._home.lock(id, timeout_s=LOCK_S), self._networks.adding():
            spec, record = self._present(id)
            segment = membership.joinable(self.segments, spec, attachment)
            if segment is not None:
                spec, record = self._lifecycle.connecting.connect(spec, record, segment, attachment)
            return records.status(id, spec, record)

    @told()
    def disconnect(self, id: str, network: str) -> ContainerStatus:
        with self._home.lock(id, timeout_s=LOCK_S), self._networks.adding():
            spec, record = self._present(id)
            if membership.leavable(self.segments, spec, network):
                spec, record = self._lifecycle.connecting.disconnect(spec, record, network)
            return records.status(id, spec, record)

    def _present(self, id: str) -> tuple[ContainerSpec, Record]:
        spec, record = self._settled(id)
        if record.state is State.REMOVING:
            raise Conflict("The container is being removed.", hint="Launch a new one.")
        if record.state is State.RUNNING:
            return self._lifecycle.connecting.finish(spec, record)
        return spec, record
