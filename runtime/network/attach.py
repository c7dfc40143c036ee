"""A tenant's network, and a container's place on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.api import Port
from runtime.errors import HostUnfit
from runtime.home import Home, atomic_write
from runtime.kernel import conntrack, link, namespaces
from runtime.kernel.nft import NftablesFault
from runtime.network import addresses, firewall
from runtime.network.claims import Claims
from runtime.network.tenants import TenantSlot, TenantSlots

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
LOCK = "node-network"
"""As those of ports and tenants, no container's id can be it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is reserved for a container while it runs; written before anything is made in the kernel, and like all that gone after a reboot."""

    container: str
    tenant: str
    address: str
    prefix: int
    gateway: str
    mac: str
    interface: str
    bridge: str
    ports: tuple[Port, ...]


def mac_of(name: str) -> str:
    """Locally administered, unicast, and always the same for a container or a bridge."""
    digest = hashlib.sha256(name.encode()).digest()[:5]
    return "02:" + ":".join(f"{byte:02x}" for byte in digest)


def forward_packets() -> None:
    """Raises HostUnfit."""
    if FORWARDING.read_text(encoding="ascii").strip() != "1":
        try:
            FORWARDING.write_text("1", encoding="ascii")
        except OSError:
            raise HostUnfit("The node does not forward IPv4 packets.", hint="Set net.ipv4.ip_forward to 1.") from None


class TenantNetworks:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._slots = TenantSlots(home)

    # the tenant ------------------------------------------------------------------------------------------

    def tenant(self, tenant: str) -> TenantSlot:
        return self._slots.get(tenant)

    def ensure(self, tenant: str) -> TenantSlot:
        """Bridge up, rules in.  Cheap when all is there."""
        slot = self.tenant(tenant)
        if link.exists(slot.bridge) and (self._marks / slot.bridge).exists():
            return slot
        with self._home.lock(LOCK):
            self._ensure_bridge(slot)
        return slot

    def _ensure_bridge(self, slot: TenantSlot) -> None:
        """Under the lock.  The mark comes last: what a crash cut short is done anew."""
        forward_packets()
        if not firewall.present(self._home):
            firewall.install(self._home, self._elements())
        firewall.add_bridge(self._home, slot.bridge, slot.subnet)
        link.ensure_bridge(slot.bridge, slot.gateway, slot.prefix, mac_of(slot.bridge))
        self._marks.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._marks / slot.bridge).write_text(slot.tenant, encoding="ascii")

    def restore(self) -> None:
        """Put back what somebody took away from under running containers; cheap when nothing is amiss.

        A restarted nftables service flushes everybody's rules, and with ours the isolation; a bridge can be deleted by hand.
        """
        slots = [self.tenant(mark.read_text(encoding="ascii")) for mark in self._marks.glob("*")]
        if not slots or (firewall.present(self._home) and all(link.exists(slot.bridge) for slot in slots)):
            return
        logger.warning("rules or bridges of %s are gone: they are put back", self._home.instance)
        with self._home.lock(LOCK):
            if not firewall.present(self._home):
                firewall.install(self._home, self._elements())
            for slot in slots:
                if not link.exists(slot.bridge):
                    self._ensure_bridge(slot)
            for endpoint in self._endpoints():
                if link.exists(endpoint.interface) and not link.on_bridge(endpoint.interface):
                    link.join_bridge(endpoint.interface, endpoint.bridge)

    def _elements(self) -> list[str]:
        """What the rules hold of the bridges and the containers that are here."""
        slots = [self.tenant(mark.read_text(encoding="ascii")) for mark in self._marks.glob("*")]
        bridges = [firewall.bridge_elements(self._home, slot.bridge, slot.subnet) for slot in slots]
        members = [
            firewall.member_elements(self._home, one.interface, one.mac, one.address, one.ports)
            for one in self._endpoints()
        ]
        return bridges + members

    def _endpoints(self) -> list[Endpoint]:
        found = (self.endpoint(file.stem) for file in (self._home.run / "endpoints").glob("*.json"))
        return [endpoint for endpoint in found if endpoint is not None]

    @property
    def _marks(self) -> Path:
        """On the tmpfs, like the bridges: a bridge's rules are in."""
        return self._home.run / "bridges"

    # a container -----------------------------------------------------------------------------------------

    def _file(self, container: str) -> Path:
        return self._home.run / "endpoints" / f"{container}.json"

    def endpoint(self, container: str) -> Endpoint | None:
        try:
            fields = json.loads(self._file(container).read_bytes())
        except FileNotFoundError:
            return None
        fields["ports"] = tuple(Port(**port) for port in fields["ports"])
        return Endpoint(**fields)

    def reserve(self, container: str, tenant: str, ports: tuple[Port, ...]) -> Endpoint:
        """An address and host ports.  Raises Conflict, LimitExceeded; then nothing is reserved."""
        existing = self.endpoint(container)
        if existing is not None:
            return existing
        slot = self.ensure(tenant)
        taken = addresses.take_ports(self._home, ports, container)
        try:
            endpoint = Endpoint(
                container=container,
                tenant=tenant,
                address=addresses.take_address(self._home, slot, container),
                prefix=slot.prefix,
                gateway=slot.gateway,
                mac=mac_of(container),
                interface=self._home.veth(container),
                bridge=slot.bridge,
                ports=taken,
            )
            self._file(container).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic_write(self._file(container), json.dumps(asdict(endpoint)).encode())
        except Exception:
            addresses.free_ports(self._home, taken, container)
            addresses.address_claims(self._home, tenant).free_all(container)
            raise
        return endpoint

    def admit(self, endpoint: Endpoint) -> None:
        """Let the container's packets through, and only its own, before it has an interface.

        Rules that somebody flushed are put back, and what an earlier holder left of this address and these ports is taken away.
        """
        try:
            firewall.admit(self._home, endpoint.interface, endpoint.mac, endpoint.address, endpoint.ports)
        except NftablesFault:
            self.restore()
            firewall.expel(self._home, endpoint.interface, endpoint.mac, endpoint.address, endpoint.ports)
            firewall.admit(self._home, endpoint.interface, endpoint.mac, endpoint.address, endpoint.ports)
        self._forget_flows(endpoint)

    @staticmethod
    def _forget_flows(endpoint: Endpoint) -> None:
        """A stream of datagrams keeps the way that its first one took, to the node itself or to a container that is gone."""
        for port in endpoint.ports:
            if port.protocol == "udp" and port.host_port:
                conntrack.forget_udp(port.host_port)

    def attach(self, endpoint: Endpoint, pid: int) -> None:
        """Give the process's network namespace its interface.  The namespace is pinned first: its counters outlive it."""
        pin = self._home.netns(endpoint.container)
        namespaces.unpin_network(pin)
        namespaces.pin_network(pid, pin)
        link.add_veth(endpoint.interface, endpoint.bridge, pid, endpoint.mac)
        link.configure_inside(pin, endpoint.address, endpoint.prefix, endpoint.gateway)

    def detach(self, container: str) -> None:
        """Take away everything of a container, in whatever state it was left."""
        endpoint = self.endpoint(container)
        if endpoint is not None and firewall.present(self._home):
            firewall.expel(self._home, endpoint.interface, endpoint.mac, endpoint.address, endpoint.ports)
            self._forget_flows(endpoint)
        if not namespaces.unpin_network(self._home.netns(container)):
            link.remove(self._home.veth(container))  # else the kernel removes it with its namespace, and nobody waits
        if endpoint is None:
            for claims in self._all_claims():
                claims.free_all(container)
        else:
            addresses.free_ports(self._home, endpoint.ports, container)
            addresses.address_claims(self._home, endpoint.tenant).free(endpoint.address, container)
            self._file(container).unlink(missing_ok=True)

    def _all_claims(self) -> Iterator[Claims]:
        folder = self._home.run / "addresses"
        for tenant in sorted(folder.iterdir()) if folder.is_dir() else ():
            yield addresses.address_claims(self._home, tenant.name)
        yield addresses.port_claims(self._home)

    # the node --------------------------------------------------------------------------------------------

    def belongings(self) -> Iterator[tuple[str, str]]:
        """(container's id, ``kind:name``) of every endpoint, pinned namespace, address and port."""
        for file in sorted((self._home.run / "endpoints").glob("*.json")):
            yield file.stem, f"endpoint:{file.stem}"
        pins = self._home.run / "netns"
        for pin in sorted(pins.iterdir()) if pins.is_dir() else ():
            yield pin.name, f"netns:{pin.name}"
        for claims in self._all_claims():
            kind = "port" if claims.folder.name == "ports" else "address"
            for owner, name in claims.holdings():
                yield owner, f"{kind}:{name}"

    def teardown(self) -> None:
        """Every endpoint, bridge and rule of this instance; no container may be left."""
        for container in {owner for owner, _ in self.belongings()}:
            self.detach(container)
        for file in self._home.tenants.glob("*.json"):
            link.remove(self._home.bridge(file.stem))
        firewall.remove(self._home)
        for mark in self._marks.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                mark.unlink()
