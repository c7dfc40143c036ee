"""Slots: what a tenant owns on this node, durable from its first use: a range of user ids, a subnet, a bridge."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime import logs
from runtime.errors import EngineFault, HostUnfit, LimitExceeded
from runtime.home import Home, atomic_write, decoding

IDS_PER_TENANT = 65536
TENANT_PREFIX = 24
ALLOCATION = "all-tenants"
"""The lock under which subnets are given, to tenants and to networks."""


logger = logs.of(__name__)


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


def marks(home: Home) -> Path:
    """A file for each bridge that is made, with its segment: on the tmpfs, like the bridges."""
    return home.run / "bridges"


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
                        up = self._of_bridge(tenant)  # should somebody have taken the file away
                        number = self._free_slot() if up is None else up
                        self._slot(tenant, number)  # refuses what cannot be, before it is written
                        self._home.tenants.mkdir(parents=True, exist_ok=True, mode=0o700)
                        atomic_write(file, json.dumps({"slot": number}).encode())
            self._cache[tenant] = self._slot(tenant, self._number(tenant))
        return self._cache[tenant]

    def _number(self, tenant: str) -> int:
        """As its file says; where that is damaged, as the bridge does that is up since.

        Raises EngineFault: nobody knows, and no other number may be taken for it, as its files and volumes have owners of its range.
        """
        file = self._home.tenants / f"{tenant}.json"
        try:
            with decoding(file):
                number = json.loads(file.read_bytes())["slot"]
                if type(number) is not int or number < 0:
                    raise ValueError("it is no number of a slot")
        except EngineFault:
            number = self._of_bridge(tenant)
            if number is None:
                raise
            logger.warning("the place of %s on this node is written down anew", tenant)
            atomic_write(file, json.dumps({"slot": number}).encode())
        return int(number)

    def _of_bridge(self, tenant: str) -> int | None:
        mark = marks(self._home) / self._home.bridge(tenant)
        try:
            with decoding(mark):
                told = json.loads(mark.read_bytes())
                subnet = ipaddress.IPv4Network(told["subnet"])
                number = (int(subnet.network_address) - int(self._block().network_address)) >> (32 - TENANT_PREFIX)
                sound = told["tenant"] == tenant and 0 <= number < self._count() and self._subnet(number) == subnet
        except (FileNotFoundError, EngineFault):
            return None
        return number if sound else None

    def _free_slot(self) -> int:
        """Raises EngineFault: nobody knows which one a tenant has."""
        taken = {self._number(file.stem) for file in self._home.tenants.glob("[!.]*.json")}
        networks = [ipaddress.IPv4Network(subnet) for subnet in self._of_networks()]
        free = (number for number in itertools.count() if number not in taken)
        return next(number for number in free if not any(self._subnet(number).overlaps(one) for one in networks))

    def _of_networks(self) -> Iterator[str]:
        """Subnets of networks with names, which may lie in our block, and of all bridges that are up, whosever they are said to be."""
        for mark in marks(self._home).glob("[!.]*"):
            with contextlib.suppress(FileNotFoundError, EngineFault), decoding(mark):
                yield str(ipaddress.IPv4Network(json.loads(mark.read_bytes())["subnet"]))
        for file in self._home.networks.glob("*/[!.]*.json"):
            # removed in this moment, or damaged, which its own users are told
            with contextlib.suppress(FileNotFoundError, EngineFault), decoding(file):
                yield str(ipaddress.IPv4Network(json.loads(file.read_bytes())["segment"]["subnet"]))

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
