"""What a node saw of one start of a container at one instant, as it lies in the spool.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from console.metering.measuring import COUNTERS, GAUGE, Seen
from console.metering.sizes import Size, sizes_json, sizes_of
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
    limits: tuple[int, int] | None = None
    """Memory in bytes and thousandths of a vCPU that the epoch began with; None: an agent from before this was told."""
    sizes: tuple[Size, ...] = ()
    """How they changed since, all of the epoch's."""
    started_ns: int | None = None
    """Boot time of ``started_us``; None: an agent from before this was told."""

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
    found = asdict(observation)
    if isinstance(observation, Observation):
        found["sizes"] = sizes_json(observation.sizes)
        if not found["sizes"]:
            del found["sizes"]  # of nearly all
    return found


def decode(found: Mapping[str, Any]) -> Observation | TotalLook:
    """Of this version or an earlier one, whose frames may lie in the spool for days."""
    if "tenant" in found:
        return TotalLook(**found)
    limits, sizes = found.get("limits"), sizes_of(found.get("sizes", ()))
    told = {"limits": None if limits is None else (limits[0], limits[1]), "sizes": tuple(sizes)}
    return Observation(**{**found, **told})


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
