"""Networks in the kernel, and a container's place on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from runtime import logs
from runtime.api import MOST_NETWORKS, Connection, ContainerSpec, Port
from runtime.errors import EngineFault, NotFound
from runtime.failpoint import failpoint
from runtime.home import Home, atomic_write
from runtime.kernel import conntrack, link, namespaces
from runtime.kernel.nft import NftablesFault
from runtime.network import addresses, endpoint, firewall, neighbours, placement
from runtime.network.endpoint import Endpoint, Place, mac_of
from runtime.network.names import Names
from runtime.network.routes import forward_packets, forward_packets6
from runtime.network.segments import Segment, Segments
from runtime.network.tenants import TenantSlot, TenantSlots, marks

LOCK, REMOVAL = "node-network", "network-removal"
"""As those of ports and tenants, no container's id can be either."""

BRIDGES = "swb"
"""How those begin that are ours (:meth:`Home.bridge`)."""

logger = logs.of(__name__)


class TenantNetworks:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._slots = TenantSlots(home)
        self.segments = Segments(home, self._slots)
        self.names = Names(home)

    # the networks ----------------------------------------------------------------------------------------

    def tenant(self, tenant: str) -> TenantSlot:
        return self._slots.get(tenant)

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """While a container that names networks is written down: nobody removes one.  Any number at once."""
        with self._home.lock(REMOVAL, shared=True):
            yield

    @contextlib.contextmanager
    def removing(self) -> Iterator[None]:
        with self._home.lock(REMOVAL):
            yield

    def ensure(self, segment: Segment) -> None:
        """Bridge up, rules in, names answered.  Cheap when all is there.  Raises NotFound when a flat one's bridge is gone, HostUnfit."""
        if segment.flat:
            self._ensure_flat(segment)
        elif not self._whole(segment):
            with self._home.lock(LOCK):
                self._ensure_bridge(segment)

    def _whole(self, segment: Segment) -> bool:
        return link.exists(segment.bridge) and self._mark(segment).exists() and self.names.alive(segment.bridge)

    def _ensure_flat(self, segment: Segment) -> None:
        """Looked at with each start: an admin may have taken the permission back, or the bridge away."""
        if segment.bridge not in self._home.flat_bridges or not link.is_bridge(segment.bridge):
            raise NotFound(
                f"The node's bridge {segment.bridge!r} is not there, or containers may not be on it.",
                hint="An admin allows it in SLIPWAY_FLAT_BRIDGES.",
                field="networks",
            )
        neighbours.make_room()
        if not firewall.present(self._home):
            with self._home.lock(LOCK):
                self.install_rules()

    def _ensure_bridge(self, segment: Segment) -> None:
        """Under the lock.  The mark comes last: what a crash cut short is done anew."""
        neighbours.make_room()
        forward_packets()
        if segment.subnet6:
            forward_packets6()
        if not firewall.present(self._home):
            self.install_rules()
        try:
            firewall.add_segment(self._home, segment)
        except NftablesFault:  # rules of an older version, which containers that run since have
            self.install_rules()
            firewall.add_segment(self._home, segment)
        failpoint("bridge.rules")
        link.ensure_bridge(
            segment.bridge, segment.gateway, segment.prefix, mac_of(segment.bridge), segment.gateway6, segment.prefix6
        )
        failpoint("bridge.made")
        self.names.ensure(segment)
        self._tell_all(segment)
        failpoint("bridge.names")
        self.write_mark(segment)

    def _tell_all(self, segment: Segment) -> None:
        for one in self._endpoints():
            if one.tenant == segment.tenant:
                self.names.tell(one, [segment.bridge])
                if not endpoint.file_of(self._home, one.container).exists():  # it has ended meanwhile
                    self.names.untell(one.container, [segment.bridge])

    def take_down(self, segment: Segment) -> None:
        """Whatever there is of a network that no container is on, in the kernel and in RUN."""
        if segment.flat:
            return
        with self._home.lock(LOCK):
            self.names.silence(segment.bridge)
            failpoint("network.silenced")
            link.remove(segment.bridge)
            failpoint("network.unlinked")
            if segment.subnet and firewall.present(self._home):
                firewall.remove_segment(self._home, segment)
            self._mark(segment).unlink(missing_ok=True)

    def restore(self) -> None:
        """Put back what somebody took away from under running containers; cheap when nothing is amiss.

        A restarted nftables service flushes everybody's rules, and with ours the isolation; a bridge can be deleted by hand, a
        name server killed.
        """
        if self._all_whole():
            return
        with self._home.lock(LOCK):
            if self._all_whole():  # one was being taken down
                return
            logger.warning("rules, bridges or name servers of %s are gone: they are put back", self._home.instance)
            if not firewall.present(self._home):
                self.install_rules()
            for segment in self.up():
                if not self._whole(segment):
                    self._ensure_bridge(segment)
            for one in self._endpoints():
                for place in one.places:
                    if (
                        link.exists(place.interface)
                        and link.exists(place.bridge)
                        and not link.on_bridge(place.interface)
                    ):
                        link.join_bridge(place.interface, place.bridge)

    def _all_whole(self) -> bool:
        segments = self.up()
        return not segments or (firewall.present(self._home) and all(map(self._whole, segments)))

    def write_mark(self, segment: Segment) -> None:
        """Its bridge is made, and its rules are in."""
        self._marks.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_write(self._mark(segment), json.dumps(asdict(segment)).encode())

    def install_rules(self) -> None:
        """All of them anew, with what is here; under the lock."""
        firewall.install(self._home, self._elements())

    def _elements(self) -> list[str]:
        """What the rules hold of the bridges and the containers that are here."""
        segments = [firewall.segment_elements(self._home, segment) for segment in self.up()]
        return segments + [firewall.member_elements(self._home, one) for one in self._endpoints()]

    def up(self) -> list[Segment]:
        """Those whose bridge is made."""
        found = (self.segments.of_mark(mark) for mark in sorted(self._marks.glob("[!.]*")))
        return [segment for segment in found if segment is not None]

    def _endpoints(self) -> list[Endpoint]:
        return list(placement.readable(self._home))

    @property
    def _marks(self) -> Path:
        """A bridge's rules are in."""
        return marks(self._home)

    def _mark(self, segment: Segment) -> Path:
        return self._marks / segment.bridge

    # a container -----------------------------------------------------------------------------------------

    def endpoint(self, container: str) -> Endpoint | None:
        """Raises EngineFault: its file is damaged (:meth:`heal`)."""
        return endpoint.load(self._home, container)

    def readable(self, container: str) -> Endpoint | None:
        """None also for one whose file is damaged."""
        try:
            return self.endpoint(container)
        except EngineFault as fault:
            logger.warning("nobody knows the places of %s on its networks: %s", container, fault)
            return None

    def check(self, spec: ContainerSpec) -> None:
        """Raises NotFound, InvalidSpec for networks that the container cannot be on."""
        placement.wanted(self.segments, spec)

    def reserve(self, spec: ContainerSpec) -> Endpoint:
        """Addresses and host ports, on networks that are up.  Raises Conflict, LimitExceeded, InvalidSpec, NotFound; then nothing is reserved."""
        existing = self.readable(spec.id)
        if existing is not None:
            return existing
        if endpoint.file_of(self._home, spec.id).exists():
            self.detach(spec.id)  # whatever was left of an earlier start
        networks = placement.wanted(self.segments, spec)
        for segment, _ in networks:
            self.ensure(segment)
        return placement.reserve(self._home, spec, networks)

    def admit(self, made: Endpoint) -> None:
        """Let the container's packets through, and only its own, before it has an interface; and its name be known.

        Rules that somebody flushed are put back, and what an earlier holder left of this address and these ports is taken away.
        """
        self.let_in(made)
        self._forget_flows(made.ports)
        self.tell(made)

    def let_in(self, made: Endpoint) -> None:
        try:
            firewall.admit(self._home, made)
        except NftablesFault:
            self.restore()
            firewall.expel(self._home, made)
            firewall.admit(self._home, made)

    def tell(self, made: Endpoint) -> None:
        """Its tenant's networks know its names, and those of networks that it is on no more no longer."""
        self.names.tell(made, self._bridges_of(made.tenant))

    def _bridges_of(self, tenant: str) -> list[str]:
        return [self._home.bridge(tenant), *(segment.bridge for segment in self.segments.named(tenant))]

    @staticmethod
    def _forget_flows(ports: Sequence[Port]) -> None:
        """A stream of datagrams keeps the way that its first one took, to the node itself or to a container that is gone."""
        for port in ports:
            if port.protocol == "udp" and port.host_port:
                conntrack.forget_udp(port.host_port)

    def attach(self, made: Endpoint, pid: int) -> None:
        """Give the process's network namespace its interfaces.  The namespace is pinned first: its counters outlive it."""
        pin = self._home.netns(made.container)
        namespaces.unpin_network(pin)
        namespaces.pin_network(pid, pin)
        failpoint("attach.pinned")
        for place in made.places:
            link.add_veth(place.interface, place.bridge, pin, place.mac, place.inside)
        failpoint("attach.linked")
        neighbours.bound(pin)
        link.configure_inside(pin, [inside(place, made.main) for place in made.places])
        self.limit(made)

    def limit(self, made: Endpoint) -> None:
        """What a container receives, its host's ends send."""
        if made.rx_bps is None and made.tx_bps is None:
            return
        from runtime.kernel import shaping  # few need it, and its library takes long to load

        interfaces = [place.interface for place in made.places]
        received, sent = self._home.shapers(made.container)
        if made.rx_bps is not None:
            shaping.limit(interfaces, received, made.rx_bps, shaping.EGRESS)
        if made.tx_bps is not None:
            shaping.limit(interfaces, sent, made.tx_bps, shaping.INGRESS)

    def reshape(self, container: str, rx_bps: int | None, tx_bps: int | None) -> None:
        """Another bandwidth while it runs; not running: nothing.  Raises EngineFault when somebody has taken an interface away."""
        made = self.endpoint(container)
        if made is None or (made.rx_bps, made.tx_bps) == (rx_bps, tx_bps):
            return
        if not all(link.exists(place.interface) for place in made.places):
            raise EngineFault("The container's network interface is gone.", hint="Restart the container.")
        from runtime.kernel import shaping

        changed = replace(made, rx_bps=rx_bps, tx_bps=tx_bps)
        endpoint.save(self._home, changed)
        shaping.free([place.interface for place in changed.places])
        for shaper, rate in zip(self._home.shapers(container), (rx_bps, tx_bps), strict=True):
            if rate is None:
                link.remove(shaper)
        self.limit(changed)

    def rename(self, container: str, name: str) -> None:
        """Its networks know it by the new name alone."""
        made = self.endpoint(container)
        if made is not None and made.name != name:
            changed = replace(made, name=name)
            endpoint.save(self._home, changed)
            self.tell(changed)

    def heal(self, spec: ContainerSpec, has: Sequence[Connection], ports: tuple[Port, ...]) -> None:
        """Write down again where a container that runs is, should the file be gone or damaged; as :func:`placement.rebuilt`."""
        if not has or self.readable(spec.id) is not None:
            return
        made = placement.rebuilt(self._home, self.segments, spec, has, ports)
        endpoint.save(self._home, made)
        logger.warning("where %s is on its networks is written down anew", spec.id)
        self.let_in(made)
        self.tell(made)

    def keep(self, made: Endpoint) -> None:
        """Whatever a container that runs needs of its networks is there, by its present name.

        One that runs since a version that did not write down which of its places are flat gets what such a one has.
        """
        places = []
        for place in made.places:
            segment = self.segments.get(made.tenant, place.network)
            self.ensure(segment)
            places.append(replace(place, flat=segment.flat))
        now = replace(made, places=tuple(places))
        for claim in placement.claim(self._home, now):
            logger.warning("%s has %s, which another was given", made.container, claim)
        if now == made:
            return
        self.let_in(now)
        endpoint.save(self._home, now)
        placement.free_unplaced(self._home, now)

    def detach(self, container: str) -> None:
        """Take away everything of a container, in whatever state it was left."""
        made = self.readable(container)
        if made is not None:
            firewall.expel(self._home, made)
            self._forget_flows(made.ports)
            self.names.untell(container, self._bridges_of(made.tenant))
        elif endpoint.file_of(self._home, container).exists() or self._home.netns(container).exists():
            self._expel_by_name(container)
        failpoint("release.expelled")
        if not namespaces.unpin_network(self._home.netns(container)):
            # else the kernel removes them with their namespace, and nobody waits
            for interface in [place.interface for place in made.places] if made else self._veths(container):
                link.remove(interface)
        for shaper in self._home.shapers(container):
            link.remove(shaper)
        failpoint("release.unlinked")
        if made is None:
            addresses.free_all(self._home, container)
            endpoint.forget(self._home, container)
        else:
            placement.release(self._home, made)
            self.names.untell(
                container, self._bridges_of(made.tenant)
            )  # should another's start have told of it meanwhile

    def _expel_by_name(self, container: str) -> None:
        """Of one whose file is damaged or gone: what the rules and the claims say of it."""
        ports = addresses.claimed_ports(self._home, container)
        firewall.expel_by_name(self._home, self._veths(container), ports)
        self._forget_flows(ports)
        self.names.untell_all(container)

    def _veths(self, container: str) -> list[str]:
        """Those that it may have."""
        return [self._home.veth(container, number) for number in range(MOST_NETWORKS)]

    # the node --------------------------------------------------------------------------------------------

    def belongings(self) -> Iterator[tuple[str, str]]:
        """(container's id, ``kind:name``) of every endpoint, pinned namespace, address and port."""
        for container in endpoint.containers(self._home):
            yield container, f"endpoint:{container}"
        pins = self._home.run / "netns"
        for pin in sorted(pins.iterdir()) if pins.is_dir() else ():
            yield pin.name, f"netns:{pin.name}"
        for claims in addresses.all_claims(self._home):
            kind = "port" if claims.folder.name == "ports" else "address"
            for owner, name in claims.holdings():
                yield owner, f"{kind}:{name}"

    def teardown(self) -> None:
        """Every endpoint, bridge, server and rule of this instance; no container may be left.  Named networks stay as they are written down."""
        for container in {owner for owner, _ in self.belongings()}:
            self.detach(container)
        known = [*self.segments.own(), *self.segments.named(), *self.up()]
        for segment in {one.bridge: one for one in known if not one.flat and link.exists(one.bridge)}.values():
            self.take_down(segment)
        self.names.silence_all()
        firewall.remove(self._home)
        for mark in self._marks.glob("*"):
            if mark.name.startswith(BRIDGES) and link.is_bridge(mark.name):
                link.remove(mark.name)
            with contextlib.suppress(FileNotFoundError):
                mark.unlink()


def inside(place: Place, main: Place) -> link.Inside:
    """Only its main place leads out."""
    leads = place == main and not place.internal
    return link.Inside(
        interface=place.inside,
        address=place.address,
        prefix=place.prefix,
        gateway=place.gateway if leads else "",
        address6=place.address6,
        prefix6=place.prefix6,
        gateway6=place.gateway6 if leads else "",
    )
