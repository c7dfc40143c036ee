"""Segments: where each network lies on this node.  The tenants' own follow from their slots, those with names are files."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime import logs
from runtime.api import DEFAULT_NETWORK
from runtime.errors import Conflict, EngineFault, LimitExceeded, NotFound
from runtime.home import Home, atomic_write, decoding
from runtime.network.routes import routed
from runtime.network.sense import check_segment
from runtime.network.tenants import ALLOCATION, TenantSlot, TenantSlots, marks

if TYPE_CHECKING:
    from runtime.api import NetworkSpec

TRIES = 100

logger = logs.of(__name__)


@dataclass(frozen=True, slots=True)
class Segment:
    """All that the kernel's side needs to know of a network.  ``gateway``, ``subnet6`` and ``gateway6`` may be empty."""

    tenant: str
    name: str
    bridge: str
    subnet: str
    gateway: str
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    flat: bool = False
    """The bridge is the node's own, and so is all that lies beyond it: no rules but those against spoofing and too many connections."""

    @property
    def prefix(self) -> int:
        return ipaddress.ip_network(self.subnet).prefixlen

    @property
    def prefix6(self) -> int:
        return ipaddress.ip_network(self.subnet6).prefixlen if self.subnet6 else 0


class Segments:
    def __init__(self, home: Home, slots: TenantSlots) -> None:
        self._home = home
        self._slots = slots

    def default(self, tenant: str) -> Segment:
        """Raises as TenantSlots.get does."""
        slot: TenantSlot = self._slots.get(tenant)
        return Segment(tenant, DEFAULT_NETWORK, slot.bridge, slot.subnet, slot.gateway)

    def get(self, tenant: str, name: str, field: str = "network") -> Segment:
        """Raises NotFound, or EngineFault: its file is damaged, and no bridge of it is up that would tell."""
        if name == DEFAULT_NETWORK:
            return self.default(tenant)
        try:
            return self._stored(tenant, name)
        except FileNotFoundError:
            raise NotFound(f"There is no network {name!r}.", hint="Create it first.", field=field) from None
        except EngineFault:
            up = self.marked(marks(self._home) / self._home.bridge(tenant, name))
            if up is None or (up.tenant, up.name) != (tenant, name):
                raise
            return up

    def _stored(self, tenant: str, name: str) -> Segment:
        """Raises FileNotFoundError, EngineFault."""
        with decoding(self._file(tenant, name)):
            return _sensible(Segment(**self._read(tenant, name)["segment"]), tenant, name)

    def of_mark(self, mark: Path) -> Segment | None:
        """That whose bridge is made; of a mark that is damaged the one that has this bridge.  None: none has."""
        found = self.marked(mark)
        if found is None:
            logger.warning("nobody knows any more whose the bridge %s was made", mark.name)
            found = next((one for one in (*self.own(), *self.named()) if one.bridge == mark.name), None)
        return found

    def marked(self, mark: Path) -> Segment | None:
        """None: the mark is gone or damaged."""
        try:
            text = mark.read_text(encoding="ascii")
            if text in self.tenants():  # as an earlier version wrote it
                return self.default(text)
            with decoding(mark):
                found = Segment(**json.loads(text))
                return _sensible(found, found.tenant, found.name) if found.bridge == mark.name else None
        except (FileNotFoundError, ValueError, EngineFault):
            return None

    def exists(self, segment: Segment) -> bool:
        return segment.name == DEFAULT_NETWORK or self._file(segment.tenant, segment.name).exists()

    def spec(self, tenant: str, name: str) -> NetworkSpec | None:
        """As it was asked for; None: there is none of that name, or it is nobody's to ask for."""
        from runtime.api import NetworkSpec

        try:
            with decoding(self._file(tenant, name)):
                return NetworkSpec(**self._read(tenant, name)["spec"])
        except FileNotFoundError:
            return None

    def named(self, tenant: str | None = None) -> Iterator[Segment]:
        """Without those whose files are damaged: they hold up nothing of the others."""
        for file in sorted(self._home.networks.glob(f"{tenant or '*'}/[!.]*.json")):
            try:
                if file.is_file():
                    yield self.get(file.parent.name, file.stem)
            except NotFound:
                continue  # removed in this moment
            except EngineFault as fault:
                logger.warning("nobody knows the network %s of %s: %s", file.stem, file.parent.name, fault)

    def own(self, tenant: str | None = None) -> Iterator[Segment]:
        """The tenants' own networks, likewise."""
        for one in self.tenants():
            try:
                if tenant in {None, one}:
                    yield self.default(one)
            except EngineFault as fault:
                logger.warning("nobody knows the place of %s on this node: %s", one, fault)

    def tenants(self) -> tuple[str, ...]:
        """That have a network of their own, and so had a container."""
        return tuple(sorted(file.stem for file in self._home.tenants.glob("[!.]*.json")))

    def create(self, spec: NetworkSpec) -> Segment:
        """Raises Conflict, LimitExceeded.  The spec is valid, and nobody has its name."""
        with self._home.lock(ALLOCATION):
            segment = self._placed(spec)
            self._write(spec, segment)
        return segment

    def _write(self, spec: NetworkSpec, segment: Segment) -> None:
        file = self._file(spec.tenant, spec.name)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic_write(file, json.dumps({"spec": asdict(spec), "segment": asdict(segment)}).encode())

    def restore(self, segment: Segment) -> None:
        """Write down again, by its bridge that is up, a network whose file is damaged or gone."""
        from runtime.api import NetworkSpec

        six = segment.subnet6 or None
        spec = NetworkSpec(
            segment.tenant, segment.name, segment.subnet, ipv6=six is not None, subnet6=six, internal=segment.internal
        )
        self._write(spec, segment)

    def whole(self, segment: Segment) -> bool:
        """Whether its file is there and says what can be."""
        if segment.name == DEFAULT_NETWORK:
            return True
        try:
            self._stored(segment.tenant, segment.name)
        except (FileNotFoundError, EngineFault):
            return False
        return True

    def forget(self, tenant: str, name: str) -> None:
        self._file(tenant, name).unlink(missing_ok=True)

    def _file(self, tenant: str, name: str) -> Path:
        return self._home.networks / tenant / f"{name}.json"

    def _read(self, tenant: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self._file(tenant, name).read_bytes()))

    # where it lies ---------------------------------------------------------------------------------------

    def _placed(self, spec: NetworkSpec) -> Segment:
        subnet = self._subnet(spec)
        subnet6 = self._subnet6(spec)
        return Segment(
            tenant=spec.tenant,
            name=spec.name,
            bridge=spec.parent or self._home.bridge(spec.tenant, spec.name),
            subnet=str(subnet),
            gateway=(spec.gateway or "") if spec.parent else str(subnet[1]),
            subnet6=str(subnet6) if subnet6 else "",
            gateway6=str(subnet6[1]) if subnet6 else "",
            internal=spec.internal,
            flat=spec.parent is not None,
        )

    def _subnet(self, spec: NetworkSpec) -> IPv4Network:
        taken = [IPv4Network(other.subnet) for other in self._all()]
        if spec.subnet is None:
            return self._slots.free_subnet(taken)
        subnet = IPv4Network(spec.subnet)
        if spec.parent:
            return subnet
        for other in taken:
            if subnet.overlaps(other):
                raise Conflict(f"The subnet {subnet} meets another network.", hint="Choose another.", field="subnet")
        for device, route in routed():
            if subnet.overlaps(route) and not self._ours(device):
                raise Conflict(
                    f"The subnet {subnet} meets a route of the node, {route}.", hint="Choose another.", field="subnet"
                )
        return subnet

    def _subnet6(self, spec: NetworkSpec) -> IPv6Network | None:
        if not spec.ipv6 and spec.subnet6 is None:
            return None
        taken = [IPv6Network(other.subnet6) for other in self._all() if other.subnet6]
        if spec.subnet6 is not None:
            subnet = IPv6Network(spec.subnet6)
            if any(subnet.overlaps(other) for other in taken):
                raise Conflict(f"The subnet {subnet} meets another network.", hint="Choose another.", field="subnet6")
            return subnet
        name = f"{self._home.instance}/{spec.tenant}/{spec.name}"
        for number in range(TRIES):
            subnet = unique_local(f"{name}/{number}")
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
        raise LimitExceeded("No IPv6 subnet is free.", hint="Choose one.", field="subnet6")

    def _all(self) -> Iterator[Segment]:
        """Those of every tenant that the node routes."""
        yield from (segment for segment in self.named() if not segment.flat)
        yield from self.own()

    def _ours(self, device: str) -> bool:
        return device in {segment.bridge for segment in self._all()}


def _sensible(segment: Segment, tenant: str, name: str) -> Segment:
    """Raises TypeError, ValueError."""
    check_segment(segment)
    if (segment.tenant, segment.name) != (tenant, name):
        raise ValueError("it is another's")
    return segment


def unique_local(name: str) -> IPv6Network:
    """A /64 of the block for local use (RFC 4193), by a hash in place of chance, so that it is the same after a re-creation."""
    digest = hashlib.sha256(name.encode()).digest()[:7]
    return IPv6Network((b"\xfd" + digest + bytes(8), 64))
