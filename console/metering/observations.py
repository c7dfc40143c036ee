"""What a node saw of one start of a container at one instant, as it lies in the spool.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from console.metering.measuring import COUNTERS, GAUGE, Seen
from runtime.api import Counters


@dataclass(frozen=True, slots=True)
class Observation:
    container: str
    epoch: int
    """``ContainerStatus.epoch``: which start."""
    started_us: int
    """Microseconds since 1970, as is ``at_us``."""
    boot_id: str
    cgroup: int
    """Version of the hierarchy that was read: 1 or 2."""
    at_us: int
    ns: int
    values: Mapping[str, int | None]
    gauge: int | None

    @property
    def seen(self) -> Seen:
        return Seen(self.at_us, self.ns, self.values, self.gauge)


@dataclass(frozen=True, slots=True)
class TotalLook:
    """At the CPU counter of a tenant's own cgroup, in ns, before and after its containers were read."""

    tenant: str
    boot_id: str
    inode: int
    cgroup: int
    """Version of the hierarchy."""
    at_us: int
    ns: int
    before: int
    after: int


def look(counters: Counters) -> Seen:
    values = {str(meter): getattr(counters, name) for meter, name in COUNTERS.items()}
    return Seen(round(counters.at * 1_000_000), counters.boottime_ns, values, getattr(counters, GAUGE))


def encode(observation: Observation | TotalLook) -> dict[str, Any]:
    return asdict(observation)


def decode(found: Mapping[str, Any]) -> Observation | TotalLook:
    return TotalLook(**found) if "tenant" in found else Observation(**found)


SOURCES: Mapping[int, Mapping[str, str]] = {
    1: {
        "cpu": "cpuacct.usage",
        "block_read": "blkio.throttle.io_service_bytes_recursive",
        "block_write": "blkio.throttle.io_service_bytes_recursive",
        "memory_used": "memory.usage_in_bytes",
        "net_rx": "veth statistics/tx_bytes",
        "net_tx": "veth statistics/rx_bytes",
    },
    2: {
        "cpu": "cpu.stat usage_usec",
        "block_read": "io.stat rbytes",
        "block_write": "io.stat wbytes",
        "memory_used": "memory.current",
        "net_rx": "veth statistics/tx_bytes",
        "net_tx": "veth statistics/rx_bytes",
    },
}
"""Version of the hierarchy -> meter -> the kernel's file, for ``Reading.source``; 0 for neither has none."""
