"""The metering error: what each tenant's cgroup counted beside the sum of its containers' records, hour by hour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from django.db.models import Count, Max, Q, Sum

from console.accounts.models import Tenant
from console.metering.models import Meter, TenantHour, UsageRecord
from console.metering.selectors.tails import tails
from console.metering.splitting import HOUR

Verdict = Literal["open", "partial", "exact", "within", "apart"]
ROUNDING_NS = 1000
"""Of each container on cgroup v2."""


@dataclass(frozen=True, slots=True)
class Conservation:
    """One hour of one tenant, in nanoseconds of CPU."""

    tenant: Tenant
    window: dt.datetime
    counted: int
    """By the tenant's cgroup."""
    recorded: int
    """The sum of its containers' records, and of what they used since the last."""
    allowed: int
    """So much may lie on the other side of the hour's edges, or be rounding of the kernel's."""
    watched: bool
    read_at: dt.datetime

    @property
    def end(self) -> dt.datetime:
        return self.window + HOUR

    @property
    def error(self) -> int:
        """Above zero: used, and in no record."""
        return self.counted - self.recorded

    @property
    def verdict(self) -> Verdict:
        """``open``: the hour has not been read past its end.  ``apart``: what neither the edges nor rounding explain."""
        if not self.watched:
            return "partial"
        if self.read_at < self.window + HOUR:
            return "open"
        if self.error == 0:
            return "exact"
        return "within" if abs(self.error) <= self.allowed else "apart"


@dataclass(frozen=True, slots=True)
class TenantDay:
    """A tenant's hours of one day together."""

    tenant: Tenant
    hours: tuple[Conservation, ...]

    @property
    def counted(self) -> int:
        return sum(hour.counted for hour in self.hours)

    @property
    def recorded(self) -> int:
        return sum(hour.recorded for hour in self.hours)

    @property
    def error(self) -> int:
        return self.counted - self.recorded

    @property
    def apart(self) -> int:
        """Hours whose error nothing explains."""
        return sum(hour.verdict == "apart" for hour in self.hours)

    @property
    def partial(self) -> int:
        """Hours of which the tenant's cgroup was watched a part: their error says nothing."""
        return sum(hour.verdict == "partial" for hour in self.hours)


def conservation(tenant: Tenant | None, start: dt.datetime, end: dt.datetime) -> list[Conservation]:
    """The newest hour first, then by tenant.  ``tenant`` None: everybody's, for admins.  As many queries however many rows."""
    totals = TenantHour.objects.filter(window__gte=start, window__lt=end)
    totals = totals if tenant is None else totals.filter(tenant=tenant)
    hours = totals.values("tenant_id", "window").annotate(
        counted=Sum("quantity"), uncertain=Sum("uncertain"), version=Max("cgroup__version"), unwatched=Count("pk", filter=Q(watched=False)),
        read=Max("read_at"),
    )  # fmt: skip
    records = _recorded(tenant, start, end)
    tenants = Tenant.objects.in_bulk([*{row["tenant_id"] for row in hours}]) if tenant is None else {tenant.pk: tenant}
    found = []
    for row in hours:
        recorded, containers = records.get((row["tenant_id"], row["window"]), (0, 0))
        rounding = ROUNDING_NS * containers if row["version"] == 2 else 0
        found.append(
            Conservation(
                tenants[row["tenant_id"]], row["window"], row["counted"], recorded, row["uncertain"] + rounding,
                row["unwatched"] == 0, row["read"],
            )
        )  # fmt: skip
    return sorted(found, key=lambda hour: (-hour.window.timestamp(), hour.tenant.name))


def by_tenant(hours: Iterable[Conservation]) -> list[TenantDay]:
    """Those with unexplained hours first, then by the size of the error."""
    found: dict[str, list[Conservation]] = {}
    for hour in hours:
        found.setdefault(hour.tenant.pk, []).append(hour)
    days = [TenantDay(hours[0].tenant, tuple(hours)) for hours in found.values()]
    return sorted(days, key=lambda day: (-day.apart, -abs(day.error), day.tenant.name))


def _recorded(
    tenant: Tenant | None, start: dt.datetime, end: dt.datetime
) -> dict[tuple[str, dt.datetime], tuple[int, int]]:
    """By tenant and hour: nanoseconds, and of how many lives of containers."""
    records = UsageRecord.objects.filter(meter=Meter.CPU, window__gte=start, window__lt=end)
    records = records if tenant is None else records.filter(tenant=tenant)
    sums = records.values("tenant_id", "window").annotate(ns=Sum("quantity"), lives=Count("epoch", distinct=True))
    found = {(row["tenant_id"], row["window"]): (int(row["ns"]), row["lives"]) for row in sums}
    for tail in tails(tenant, start, end):
        ns, lives = found.get((tail.tenant_id, tail.window), (0, 0))
        found[tail.tenant_id, tail.window] = ns + tail.quantities.get(Meter.CPU, 0), lives + 1
    return found
