"""Slots: what a tenant owns on this node, durable from its first use: a range of user ids, a subnet, a bridge."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.errors import HostUnfit, LimitExceeded
from runtime.home import Home, atomic_write

IDS_PER_TENANT = 65536
TENANT_PREFIX = 24
ALLOCATION = "all-tenants"
"""The lock under which subnets are given, to tenants and to networks."""


@dataclass(frozen=True, slots=True)
class TenantSlot:
    tenant: str
    slot: int
    uid_base: int
    subnet: str
    gateway: str
    bridge: str

    @property
    def prefix(self) -> int:
        return ipaddress.ip_network(self.subnet).prefixlen


class TenantSlots:
    def __init__(self, home: Home) -> None:
        self._home = home
        self._cache: dict[str, TenantSlot] = {}

    def get(self, tenant: str) -> TenantSlot:
        """Raises LimitExceeded when the instance's subnets are used up, HostUnfit when they are not a network."""
        if tenant not in self._cache:
            file = self._home.tenants / f"{tenant}.json"
            if not file.exists():
                with self._home.lock(ALLOCATION):
                    if not file.exists():
                        number = self._free_slot()
                        self._slot(tenant, number)  # refuses what cannot be, before it is written
                        self._home.tenants.mkdir(parents=True, exist_ok=True, mode=0o700)
                        atomic_write(file, json.dumps({"slot": number}).encode())
            self._cache[tenant] = self._slot(tenant, int(json.loads(file.read_bytes())["slot"]))
        return self._cache[tenant]

    def _free_slot(self) -> int:
        taken = {int(json.loads(file.read_bytes())["slot"]) for file in self._home.tenants.glob("*.json")}
        networks = [ipaddress.IPv4Network(subnet) for subnet in self._of_networks()]
        free = (number for number in itertools.count() if number not in taken)
        return next(number for number in free if not any(self._subnet(number).overlaps(one) for one in networks))

    def _of_networks(self) -> Iterator[str]:
        """Subnets of networks with names, which may lie in our block."""
        for file in self._home.networks.glob("*/[!.]*.json"):
            with contextlib.suppress(FileNotFoundError):  # removed in this moment
                yield json.loads(file.read_bytes())["segment"]["subnet"]

    def free_subnet(self, taken: Sequence[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
        """For a network: the last of our block that none of these meets; tenants' own begin with the first.  Raises LimitExceeded."""
        for number in reversed(range(self._count())):
            subnet = self._subnet(number)
            if not any(subnet.overlaps(other) for other in taken):
                return subnet
        raise LimitExceeded(
            f"All subnets of {self._block()} are in use.",
            hint="Remove a network, choose a subnet, or give the node a larger block in SLIPWAY_SUBNETS.",
            field="subnet",
        )

    def _block(self) -> ipaddress.IPv4Network:
        """Raises HostUnfit."""
        try:
            return ipaddress.IPv4Network(self._home.subnets)
        except ValueError:
            raise HostUnfit(
                f"SLIPWAY_SUBNETS is {self._home.subnets!r}, which is not an IPv4 network.",
                hint="Set it to a private block such as 10.89.0.0/16.",
                field="SLIPWAY_SUBNETS",
            ) from None

    def _count(self) -> int:
        return int(2 ** max(0, TENANT_PREFIX - self._block().prefixlen))

    def _subnet(self, number: int) -> ipaddress.IPv4Network:
        start = int(self._block().network_address) + number * 2 ** (32 - TENANT_PREFIX)
        return ipaddress.IPv4Network((start, TENANT_PREFIX))

    def _slot(self, tenant: str, slot: int) -> TenantSlot:
        count = self._count()
        if slot >= count:
            raise LimitExceeded(
                f"All {count} subnets of {self._block()} belong to tenants already.",
                hint="Give the node a larger block in SLIPWAY_SUBNETS.",
                field="tenant",
            )
        subnet = self._subnet(slot)
        return TenantSlot(
            tenant=tenant,
            slot=slot,
            uid_base=self._home.uid_base + slot * IDS_PER_TENANT,
            subnet=str(subnet),
            gateway=str(subnet[1]),
            bridge=self._home.bridge(tenant),
        )
