"""Slots: what a tenant owns on this node, durable from its first use: a range of user ids, a subnet, a bridge."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass

from runtime.errors import HostUnfit, LimitExceeded
from runtime.home import Home, atomic_write

IDS_PER_TENANT = 65536
TENANT_PREFIX = 24


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
                with self._home.lock("all-tenants"):
                    if not file.exists():
                        number = self._free_slot()
                        self._slot(tenant, number)  # refuses what cannot be, before it is written
                        self._home.tenants.mkdir(parents=True, exist_ok=True, mode=0o700)
                        atomic_write(file, json.dumps({"slot": number}).encode())
            self._cache[tenant] = self._slot(tenant, int(json.loads(file.read_bytes())["slot"]))
        return self._cache[tenant]

    def _free_slot(self) -> int:
        taken = {int(json.loads(file.read_bytes())["slot"]) for file in self._home.tenants.glob("*.json")}
        return next(number for number in range(len(taken) + 1) if number not in taken)

    def _slot(self, tenant: str, slot: int) -> TenantSlot:
        try:
            block = ipaddress.IPv4Network(self._home.subnets)
        except ValueError:
            raise HostUnfit(
                f"SLIPWAY_SUBNETS is {self._home.subnets!r}, which is not an IPv4 network.",
                hint="Set it to a private block such as 10.89.0.0/16.",
                field="SLIPWAY_SUBNETS",
            ) from None
        count = 2 ** max(0, TENANT_PREFIX - block.prefixlen)
        if slot >= count:
            raise LimitExceeded(
                f"All {count} subnets of {block} belong to tenants already.",
                hint="Give the node a larger block in SLIPWAY_SUBNETS.",
                field="tenant",
            )
        subnet = ipaddress.IPv4Network((int(block.network_address) + slot * 2 ** (32 - TENANT_PREFIX), TENANT_PREFIX))
        return TenantSlot(
            tenant=tenant,
            slot=slot,
            uid_base=self._home.uid_base + slot * IDS_PER_TENANT,
            subnet=str(subnet),
            gateway=str(subnet[1]),
            bridge=self._home.bridge(tenant),
        )
