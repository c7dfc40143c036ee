"""What all of a tenant's containers together have used, as the tenant's own cgroup counts it: a witness beside their counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TenantTotal:
    """The CPU counter of a tenant's cgroup at one instant: of all containers that ran in it since it was made, the ended ones too.

    Source: v1 ``cpuacct.usage``; v2 ``cpu.stat usage_usec``, which rounds each container to a microsecond.
    """

    tenant: str
    boot_id: str
    cgroup_inode: int
    """With the boot it names one life of the cgroup: another counts from zero."""
    at: float
    """Wall clock, seconds since the epoch: places it, never measures."""
    boottime_ns: int
    cpu_ns: int


class Totals(Protocol):
    def read(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantTotal]:
        """By tenant, of those (or all) whose cgroup is there.  A tenant keeps its cgroup from its first start to the node's end."""

    def last(self) -> tuple[TenantTotal, ...]:
        """Stored before the cgroups were taken away, and not yet acknowledged."""

    def acknowledge(self, total: TenantTotal) -> None:
        """It is safe elsewhere; forget it."""
