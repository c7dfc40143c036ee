"""The networks that are written down, and the verbs of :class:`runtime.api.Networks` over them, for every engine that keeps them so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from runtime.api import DEFAULT_NETWORK, ContainerSpec, Network, NetworkSpec
from runtime.errors import Conflict, EngineFault, InvalidSpec, NotFound
from runtime.failpoint import failpoint
from runtime.home import Home
from runtime.kernel import link
from runtime.network.segments import Segment, Segments
from runtime.validation_networks import check_network

Specs = Callable[[], Iterable[ContainerSpec]]


class Register:
    """``containers``: the specifications of all that are written down.  What derives from it keeps them from changing, and takes
    down what there is of a network beside its file."""

    def __init__(self, home: Home, segments: Segments, containers: Specs) -> None:
        self._home = home
        self.segments = segments
        self._containers = containers

    def _alone(self) -> AbstractContextManager[None]:
        """No container is created, and no network created or removed, but by the holder."""
        return nullcontext()

    def _take_down(self, segment: Segment) -> None:
        """The network is forgotten, and nobody is on it."""

    def create(self, spec: NetworkSpec) -> Network:
        check_network(spec)
        if spec.parent is not None:
            self._check_parent(spec.parent)
        with self._alone():
            existing = self.segments.spec(spec.tenant, spec.name)
            if existing is None:
                self.segments.create(spec)
                failpoint("network.created")
            elif existing != spec:
                raise Conflict(
                    f"A network {spec.name!r} exists with another configuration.",
                    hint="Choose another name.",
                    field="name",
                )
        return self.inspect(spec.tenant, spec.name)

    def _check_parent(self, parent: str) -> None:
        if parent not in self._home.flat_bridges:
            raise InvalidSpec(
                f"Containers may not be on the node's interface {parent!r}.",
                hint="An admin allows it in SLIPWAY_FLAT_BRIDGES.",
                field="parent",
            )
        if not link.is_bridge(parent):
            raise InvalidSpec(
                f"The node has no bridge {parent!r}.", hint="Make it first, or choose another.", field="parent"
            )

    def inspect(self, tenant: str, name: str) -> Network:
        if name == DEFAULT_NETWORK and tenant not in self.segments.tenants():
            raise NotFound(f"There is no network {name!r}.", hint="Create it first.", field="network")
        segment = self.segments.get(tenant, name)
        return _shown(segment, _users(segment, self._containers()))

    def list(self, tenant: str | None = None) -> tuple[Network, ...]:
        specs = tuple(self._containers())
        return tuple(_shown(segment, _users(segment, specs)) for segment in self._all(tenant))

    def _all(self, tenant: str | None) -> Iterator[Segment]:
        yield from sorted(
            [*self.segments.own(tenant), *self.segments.named(tenant)], key=lambda one: (one.tenant, one.name)
        )

    def remove(self, tenant: str, name: str) -> None:
        if name == DEFAULT_NETWORK:
            raise Conflict("A tenant's own network stays.", hint="Remove one that has a name.", field="network")
        with self._alone():
            try:
                segment = self.segments.get(tenant, name)
            except NotFound:
                return
            except EngineFault:  # its file is damaged, and nothing of it is up
                segment = Segment(tenant, name, self._home.bridge(tenant, name), "", "")
            using = _users(segment, self._containers())
            if using:
                raise Conflict(
                    f"The network {name!r} has containers.",
                    hint="Disconnect or remove them first.",
                    field="network",
                    container=using[0],
                )
            self.segments.forget(tenant, name)
            failpoint("network.forgotten")
            self._take_down(segment)

    def prune(self, tenant: str | None = None) -> tuple[str, ...]:
        removed = []
        for network in self.list(tenant):
            if network.name == DEFAULT_NETWORK or network.containers:
                continue
            try:
                self.remove(network.tenant, network.name)
            except Conflict:
                continue  # a container has come meanwhile
            removed.append(f"{network.tenant}/{network.name}")
        return tuple(removed)


def _users(segment: Segment, specs: Iterable[ContainerSpec]) -> tuple[str, ...]:
    """Ids of the containers that name the network, or none and it is their tenant's own."""
    return tuple(
        spec.id
        for spec in specs
        if spec.tenant == segment.tenant
        and segment.name in ([one.network for one in spec.networks] or [DEFAULT_NETWORK])
    )


def _shown(segment: Segment, containers: tuple[str, ...]) -> Network:
    return Network(
        tenant=segment.tenant,
        name=segment.name,
        subnet=segment.subnet,
        gateway=segment.gateway,
        subnet6=segment.subnet6,
        gateway6=segment.gateway6,
        internal=segment.internal,
        parent=segment.bridge if segment.flat else "",
        bridge=segment.bridge,
        containers=containers,
    )
