"""The node's side: counters into the spool, the spool into the database.  Run by root's processes, the agent and the worker."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from console.metering import services
from console.metering.observations import Observation, TotalLook, decode, encode, look
from console.metering.services import totals
from console.metering.sizes import of_status
from console.metering.spool import Spool
from runtime.api import ContainerStatus, Counters, Engine, State, TenantTotal
from runtime.errors import NotFound

log = logging.getLogger(__name__)
BEFORE_THE_HOUR_S = 0.5
AFTER_THE_HOUR_S = 0.05


def seconds_to_next(now: float, every_s: float) -> float:
    """Until the next look: each ``every_s``, and a moment before and after each full hour."""
    into_hour = now % 3600
    before, after = 3600 - BEFORE_THE_HOUR_S - into_hour, 3600 + AFTER_THE_HOUR_S - into_hour
    return min(every_s, before if before > 0 else after)


class Collector:
    def __init__(self, engine: Engine, home: Path) -> None:
        """``home``: HOME/runtime, where the spool lies beside the final readings."""
        self._engine = engine
        self._spool = Spool(home / "spool")
        self._strangers = Spool(home / "strangers")

    def collect(self, containers: Iterable[str] | None = None) -> int:
        """A look at each running container (or those named), durable on the node; returns at how many."""
        statuses = self._running(containers)
        before = self._engine.totals.read() if containers is None else {}
        counters = self._engine.counters(list(statuses))
        after = self._engine.totals.read(before)
        still = self._running(containers)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        version = cgroup_version()
        found = [
            _observation(still[id], counters[id], boot, version)
            for id, status in statuses.items()
            if id in counters and id in still and still[id].epoch == status.epoch
        ]
        looks = [_total(before[tenant], total, version) for tenant, total in after.items()]
        self._spool.append([*map(encode, found), *map(encode, looks)])
        return len(found)

    def settle_totals(self) -> None:
        """What the tenants' cgroups had counted when they were taken away, into the spool and then forgotten by the engine."""
        for total in self._engine.totals.last():
            self._spool.append([encode(_total(total, total, cgroup_version()))])
            self._engine.totals.acknowledge(total)

    def deliver(self) -> int:
        """What the spool has, into the database; returns how many looks.  What no row knows is kept aside."""
        return self._spool.drain(self._take)

    def pending_bytes(self) -> int:
        return self._spool.pending_bytes()

    def _take(self, found: list[dict[str, Any]]) -> None:
        looks = [decode(one) for one in found]
        strangers = services.take(one for one in looks if isinstance(one, Observation))
        totals.take((one for one in looks if isinstance(one, TotalLook)), settings.NODE)
        if strangers:
            names = ", ".join(sorted({one.container for one in strangers}))
            log.error("readings of %s, which no row knows, cannot be billed and are kept", names)
            self._strangers.append([encode(one) for one in strangers])

    def _running(self, containers: Iterable[str] | None) -> dict[str, ContainerStatus]:
        found = self._engine.list() if containers is None else self._named(containers)
        return {one.id: one for one in found if one.state is State.RUNNING and one.started_at is not None}

    def _named(self, containers: Iterable[str]) -> Iterator[ContainerStatus]:
        for id in containers:
            with contextlib.suppress(NotFound):  # removed in this moment
                yield self._engine.inspect(id)


def cgroup_version() -> int:
    """2 only where the unified hierarchy is the one at the root."""
    return 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1


def _observation(status: ContainerStatus, counters: Counters, boot: str, version: int) -> Observation:
    """``status``: of after the look, so that it tells of every change of the limits that was done before."""
    assert status.started_at is not None
    seen, (limits, sizes) = look(counters), of_status(status)
    return Observation(
        status.id, status.epoch, round(status.started_at * 1_000_000), boot, version, seen.at_us, seen.ns, seen.values,
        seen.gauge, limits, tuple(sizes), status.started_boottime_ns,
    )  # fmt: skip


def _total(before: TenantTotal, after: TenantTotal, version: int) -> TotalLook:
    """Where the cgroup was made anew in between, what the new one counts."""
    same = (before.boot_id, before.cgroup_inode) == (after.boot_id, after.cgroup_inode)
    return TotalLook(
        after.tenant, after.boot_id, after.cgroup_inode, version, round(after.at * 1_000_000), after.boottime_ns,
        before.cpu_ns if same else after.cpu_ns, after.cpu_ns,
    )  # fmt: skip
