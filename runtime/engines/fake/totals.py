"""A tenant's total as the sum of what its containers use and of what its ended ones have used, kept in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runtime.api import TenantTotal
from runtime.home import atomic_write
from runtime.kernel.process import boot_id


class FakeTotals:
    def __init__(self, folder: Path, running: Callable[[], Mapping[str, int]]) -> None:
        """``running``: by tenant, the CPU of what runs, in ns."""
        self._folder = folder
        self._running = running

    def add(self, tenant: str, cpu_ns: int) -> None:
        """Of a container that has ended.  The caller holds the engine's lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self._folder / tenant, json.dumps(self._ended(tenant) + cpu_ns).encode())

    def _ended(self, tenant: str) -> int:
        path = self._folder / tenant
        return int(json.loads(path.read_bytes())) if path.exists() else 0

    def read(self, tenants: Iterable[str] | None = None) -> Mapping[str, TenantTotal]:
        running = self._running()
        known = {*running, *(path.name for path in self._folder.glob("t*"))}
        at, ns = time.time(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return {
            tenant: TenantTotal(tenant, boot_id(), 1, at, ns, running.get(tenant, 0) + self._ended(tenant))
            for tenant in sorted(known if tenants is None else known.intersection(tenants))
        }

    def last(self) -> tuple[TenantTotal, ...]:
        return ()

    def acknowledge(self, total: TenantTotal) -> None:
        """There is none to forget."""
