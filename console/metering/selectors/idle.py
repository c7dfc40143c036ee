"""Containers that run and reserve far more than they use, and what the unused part costs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

from django.db.models import Q

from console.accounts.models import Tenant
from console.metering.measuring import moment, seen_of
from console.metering.models import Meter, MeterEpoch
from console.metering.selectors.breakdown import COST, NANO, Asked, amounts
from console.metering.spans import Span
from console.metering.units import SHOWN, in_units
from console.workloads.models import Container

LITTLE = {Meter.CPU_LIMIT: Fraction(1, 10), Meter.MEMORY_LIMIT: Fraction(1, 4)}
"""Who uses less than this part of what it reserves, on either meter, is listed."""
USED = {Meter.CPU_LIMIT: Meter.CPU, Meter.MEMORY_LIMIT: Meter.MEMORY_USED}
LEAST = dt.timedelta(hours=1)
"""So long a time of running says something; less does not."""
MOST = 20
LONGEST = dt.timedelta(days=31)


@dataclass(frozen=True, slots=True)
class Reserved:
    meter: Meter
    reserved: Decimal
    used: Decimal
    percent: int
    little: bool

    @property
    def of_use(self) -> Meter:
        return USED[self.meter]


@dataclass(frozen=True, slots=True)
class Idle:
    container: Container
    parts: tuple[Reserved, ...]
    unused_cost: Decimal
    """The cost of what was reserved times its unused part."""


def idle(tenant: Tenant | None, span: Span) -> list[Idle]:
    """The most expensive first; ``span`` is of whole days, and of a longer one its last :data:`LONGEST` counts.  As many queries however many containers."""
    span = looked_at(span)
    sums = {meter: amounts(Asked(tenant, span, "day", "container", meter), span) for meter in (*USED, *USED.values())}
    by_cost = Asked(tenant, span, "day", "container", COST)
    costs = {meter: amounts(replace(by_cost, of_meter=meter), span) for meter in USED}
    running = Container.objects.filter(state=Container.State.RUNNING).select_related("tenant")
    running = running if tenant is None else running.filter(tenant=tenant)
    ran = _ran(tenant, span)
    found = []
    for one in running:
        long = ran.get(one.pk, dt.timedelta()) >= LEAST
        parts = tuple(_reserved(one, meter, sums, long=long) for meter in USED)
        if any(part.little for part in parts):
            found.append(Idle(one, parts, _unused(one, sums, costs)))
    return sorted(found, key=lambda one: (-one.unused_cost, -one.parts[1].reserved, one.container.name))[:MOST]


def looked_at(span: Span) -> Span:
    """Of a longer time its end."""
    return Span(max(span.start, span.end - LONGEST), span.end)


Sums = Mapping[Meter, Mapping[str, int]]


def _ran(tenant: Tenant | None, span: Span) -> dict[str, dt.timedelta]:
    """How long each container that runs did so within ``span``, as far as it was read: its limits may have changed meanwhile."""
    epochs = MeterEpoch.objects.filter(
        Q(ended_at__isnull=True) | Q(ended_at__gt=span.start), container__state=Container.State.RUNNING, started_at__lt=span.end
    )  # fmt: skip
    epochs = epochs if tenant is None else epochs.filter(tenant=tenant)
    found: dict[str, dt.timedelta] = {}
    for container, start, end, latest in epochs.values_list("container_id", "started_at", "ended_at", "latest"):
        seen = seen_of(latest)
        until = end or (start if seen is None else moment(seen.at_us))
        time = min(until, span.end) - max(start, span.start)
        found[container] = found.get(container, dt.timedelta()) + max(time, dt.timedelta())
    return found


def _reserved(container: Container, meter: Meter, sums: Sums, *, long: bool) -> Reserved:
    reserved, used = sums[meter].get(container.pk, 0), sums[USED[meter]].get(container.pk, 0)
    size = SHOWN[meter][1]
    return Reserved(
        meter, in_units(reserved, size), in_units(used, size), min(100, used * 100 // reserved) if reserved else 0,
        long and Fraction(used, reserved or 1) < LITTLE[meter],
    )  # fmt: skip


def _unused(container: Container, sums: Sums, costs: Sums) -> Decimal:
    cost = Fraction(0)
    for meter, of in USED.items():
        reserved = sums[meter].get(container.pk, 0)
        if reserved:
            used = min(reserved, sums[of].get(container.pk, 0))
            cost += costs[meter].get(container.pk, 0) * (1 - Fraction(used, reserved))
    return in_units(round(cost), NANO)
