"""CPU counters of the tenants' own cgroups, which hold their containers'."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from runtime import logs
from runtime.api import TenantTotal
from runtime.encoding import check
from runtime.errors import EngineFault
from runtime.home import Home, atomic_write, decoding
from runtime.kernel import cgroup
from runtime.kernel.process import boot_id

logger = logs.of(__name__)


class NativeTotals:
    def __init__(self, home: Home) -> None:
        self._home = home

    @property
    def _kept(self) -> Path:
        return self._home.state / "totals"

    def read(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantTotal]:
        wanted = cgroup.children(f"/{self._home.instance}") if tenants is None else tuple(tenants)
        found = {tenant: self._read(tenant) for tenant in wanted}
        return {tenant: total for tenant, total in found.items() if total is not None}

    def _read(self, tenant: str) -> TenantTotal | None:
        group = cgroup.Cgroup(f"/{self._home.instance}/{tenant}")
        try:
            inode, ns, used = group.inode(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), group.cpu_ns()
        except FileNotFoundError:
            return None
        return None if used is None else TenantTotal(tenant, boot_id(), inode, time.time(), ns, used)

    def keep(self) -> None:
        """Durable on disk, before the cgroups go."""
        for total in self.read().values():
            if total.cpu_ns:
                self._kept.mkdir(parents=True, exist_ok=True, mode=0o700)
                atomic_write(self._file(total), json.dumps(asdict(total)).encode())

    def last(self) -> tuple[TenantTotal, ...]:
        """One that is damaged stays where it is, is told in the log, and holds up none of the others."""
        found = []
        for path in sorted(self._kept.glob("[!.]*.json")):
            try:
                found.append(_stored(path))
            except EngineFault:
                logger.exception("what a tenant had used in all cannot be read")
        return tuple(found)

    def acknowledge(self, total: TenantTotal) -> None:
        self._file(total).unlink(missing_ok=True)

    def _file(self, total: TenantTotal) -> Path:
        return self._kept / f"{total.tenant}-{total.boot_id}-{total.cgroup_inode}.json"


def _stored(path: Path) -> TenantTotal:
    """Raises EngineFault."""
    with decoding(path):
        total = TenantTotal(**json.loads(path.read_bytes()))
        check(total)
        return total
