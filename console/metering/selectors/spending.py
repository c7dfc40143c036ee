"""What this month costs so far, what it will, and what one container costs: live, between two ratings.

A rating is at most an hour old.  What was used since is priced here by the same rules, from the place in the tiers that the rating
has reached; of several containers that cross a tier in that time, each is priced as if it were alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db.models import Min, Q, QuerySet, Sum

from console.accounts.models import Tenant
from console.metering.models import CostDay, Meter, Period, Quality, Resource, StaleDay, UsageDay, UsageRecord
from console.metering.months import month_of
from console.metering.rating import Used, rate
from console.metering.selectors.bills import bill
from console.metering.selectors.prices import Prices
from console.metering.selectors.tails import tails
from console.metering.spans import DAY, Span
from console.metering.splitting import hour_of
from console.metering.sums import LIMB, rest, whole
from console.metering.units import in_units, total
from console.workloads.models import Container

NANO = 10**9
US = 10**6
_US = dt.timedelta(microseconds=1)
LOOKS_BACK = DAY
LEAST_LOOK = dt.timedelta(hours=1)
MONTH_HOURS = 730
"""Of a usual month: 365 days by 12, in hours."""
Quantities = dict[str, int]
"""By meter, in its base unit."""


@dataclass(frozen=True, slots=True)
class Spending:
    """A tenant's month.  Not rounded: that is the invoice's to do."""

    currency: str
    month: dt.datetime
    so_far: Decimal
    """What is rated and what was used since, less credits."""
    forecast: Decimal
    """Of the whole month; see :func:`spending`."""
    recent: dt.timedelta
    """How long a time the forecast goes on from."""


@dataclass(frozen=True, slots=True)
class ContainerCost:
    currency: str
    month: dt.datetime
    so_far: Decimal
    """Of this month."""
    altogether: Decimal
    """Since its launch, corrections too."""
    hourly: Decimal | None
    """What it reserves costs so much an hour, while it runs."""


@dataclass(frozen=True, slots=True)
class Price:
    """Of what a launch would reserve, on top of what the tenant has used this month."""

    currency: str
    hour: Decimal
    month: Decimal
    on_top: tuple[Meter, ...]
    """Meters that have a price and are not in it: they depend on what the container does."""


def spending(tenant: Tenant, now: dt.datetime) -> Spending | None:
    """None: nothing has a price.

    Forecast: on each meter the month goes on as in the last 24 hours (or since the tenant's first use, where that is later, but
    an hour at least), so a container that was launched yesterday counts in full and one that was removed last week does not.  These
    quantities are priced by the tiers and included amounts that the month will have reached, and added to what it costs so far.
    """
    prices = Prices(tenant.pk)
    if not prices.currency:
        return None
    start, end = month_of(now)
    period = Period.objects.of(tenant).filter(starts_at=start).select_related("run", "tenant").first()
    month = Span(start, end)
    used = _less(quantities(tenant, month), _unpriced(tenant, prices, month, now))
    reached = _reached(period)
    since, reached = _priced(prices, now, _less(used, _rated(period, month)), reached)
    so_far = total(bill(period).payable if period else Decimal(0), since)
    recent, lately = _lately(tenant, now)
    left = {meter: quantity * ((end - now) // _US) // (recent // _US) for meter, quantity in lately.items()}
    more, _ = _priced(prices, now, left, reached)
    return Spending(prices.currency, start, so_far, total(so_far, more), recent)


def of_container(container: Container, now: dt.datetime) -> ContainerCost | None:
    """None: nothing has a price."""
    prices = Prices(container.tenant_id)
    if not prices.currency:
        return None
    start, end = month_of(now)
    period = Period.objects.filter(tenant=container.tenant_id, starts_at=start).select_related("run").first()
    month = Span(start, end)
    used = quantities(container.tenant, month, container=container)
    used = _less(used, _unpriced(container.tenant, prices, month, now, container))
    since, _ = _priced(prices, now, _less(used, _rated(period, month, container)), _reached(period))
    costs = _costs(container)
    this_month = in_units(int(costs.filter(day__gte=start).aggregate(sum=Sum("nanos"))["sum"] or 0), NANO)
    before = in_units(int(costs.filter(day__lt=start).aggregate(sum=Sum("nanos"))["sum"] or 0), NANO)
    so_far = total(this_month, since)
    hourly = None
    if container.state == Container.State.RUNNING:
        ports = container.ports.filter(released_at__isnull=True, host_port__isnull=False).count()
        held = reserved(container.memory_bytes, container.cpu_millis, ports, disk_bytes=container.disk_bytes or 0)
        hourly, _ = _priced(prices, now, _times(held, 3600), _reached(period))
    return ContainerCost(prices.currency, start, so_far, total(so_far, before), hourly)


def price(
    tenant: Tenant,
    now: dt.datetime,
    *,
    memory_bytes: int,
    cpu_millis: int,
    ports: int,
    disk_bytes: int = 0,
    volume_bytes: int = 0,
) -> Price | None:
    """None: nothing has a price.  ``volume_bytes``: of the volumes that the launch makes.  CPU that is charged by use is taken as used up to the limit."""
    prices = Prices(tenant.pk)
    if not prices.currency:
        return None
    period = Period.objects.of(tenant).filter(starts_at=month_of(now)[0]).select_related("run").first()
    held = reserved(memory_bytes, cpu_millis, ports, disk_bytes=disk_bytes, volume_bytes=volume_bytes)
    reached = _reached(period)
    hour, _ = _priced(prices, now, _times(held, 3600), reached)
    month, _ = _priced(prices, now, _times(held, 3600 * MONTH_HOURS), reached)
    on_top = tuple(meter for meter in Meter if meter not in held and prices.offer(meter, hour_of(now)) is not None)
    return Price(prices.currency, hour, month, on_top)


def reserved(
    memory_bytes: int, cpu_millis: int, ports: int, *, disk_bytes: int = 0, volume_bytes: int = 0
) -> Quantities:
    """What a second of running takes at most, on each meter that follows from what was asked for."""
    return {
        Meter.CPU: cpu_millis * US, Meter.CPU_LIMIT: cpu_millis * US, Meter.MEMORY_LIMIT: memory_bytes // 1024 * US,
        Meter.MEMORY_USED: memory_bytes // 1024 * US, Meter.PUBLISHED_PORT: ports * US,
        Meter.DISK_SIZE: disk_bytes // 1024 * US, Meter.VOLUME_SIZE: volume_bytes // 1024 * US,
    }  # fmt: skip


def quantities(tenant: Tenant, span: Span, *, container: Container | None = None) -> Quantities:
    """Of a time of whole days: sums of days, records where there is none, and what runs has used since."""
    records = _records(tenant, span, container)
    found: Quantities = {}
    if container is None:
        stale = list(StaleDay.objects.of(tenant).filter(day__gte=span.start).values_list("day", flat=True))
        days = UsageDay.objects.of(tenant).filter(day__gte=span.start, day__lt=span.end).exclude(day__in=stale)
        _add(found, days.values("meter").annotate(large=Sum("whole"), small=Sum("rest")).order_by())
        wanted = Q(pk__in=())
        for day in stale:
            wanted |= Q(window__gte=day, window__lt=day + DAY)
        records = records.filter(wanted)
    _add(found, _by_meter(records))
    _add_tails(found, tenant, span, container)
    return found


def _unpriced(
    tenant: Tenant, prices: Prices, span: Span, now: dt.datetime, container: Container | None = None
) -> Quantities:
    """What was used of meters that have a price now, in hours in which they had none: no rating knows it, and it costs nothing."""
    found: Quantities = {}
    edges = {span.start, span.end, *(book.valid_from for book in prices.books())}
    for start, end in pairwise(sorted(edge for edge in edges if span.start <= edge <= span.end)):
        free = {
            meter for meter in Meter if prices.offer(meter, hour_of(now)) and prices.offer(meter, start) is None
        }  # fmt: skip
        if free and start <= now:
            within = Span(start, end)
            _add(found, _by_meter(_records(tenant, within, container).filter(meter__in=free)))
            _add_tails(found, tenant, within, container, free)
    return found


def _records(tenant: Tenant, span: Span, container: Container | None) -> QuerySet[UsageRecord]:
    records = UsageRecord.objects.of(tenant).filter(window__gte=span.start, window__lt=span.end)
    if container is None:
        return records
    return records.filter(Q(epoch__container=container) | Q(allocation__identity=container.pk))


def _add_tails(
    found: Quantities, tenant: Tenant, span: Span, container: Container | None, meters: Collection[str] = Meter
) -> None:
    for tail in tails(tenant, span.start, span.end):
        if container is None or tail.container_id == container.pk:
            for meter in tail.quantities.keys() & set(meters):
                found[meter] = found.get(meter, 0) + tail.quantities[meter]


def _by_meter(records: QuerySet[UsageRecord]) -> QuerySet[Any, Any]:
    known = records.exclude(quality=Quality.MISSING)
    return known.values("meter").annotate(large=whole("quantity"), small=rest("quantity")).order_by()


def _add(found: Quantities, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        found[row["meter"]] = found.get(row["meter"], 0) + int(row["large"]) * LIMB + int(row["small"])


def _resources(container: Container) -> list[str]:
    """Each name that it had made one."""
    known = Resource.objects.filter(tenant=container.tenant_id, identity=container.pk)
    return list(known.values_list("pk", flat=True))


def _costs(container: Container) -> QuerySet[CostDay]:
    return CostDay.objects.filter(run__current_of__isnull=False, resource__in=_resources(container))


def _rated(period: Period | None, span: Span, container: Container | None = None) -> Quantities:
    """What the rating that counts has priced."""
    found: Quantities = {}
    if period is not None and period.run_id is not None:
        days = CostDay.objects.filter(run=period.run_id, day__gte=span.start, day__lt=span.end)
        if container is not None:
            days = days.filter(resource__in=_resources(container))
        _add(found, days.values("meter").annotate(large=Sum("whole"), small=Sum("rest")).order_by())
    return found


def _reached(period: Period | None) -> dict[str, int]:
    """By SKU: where in the month's tiers the rating is."""
    if period is None or period.run is None:
        return {}
    return {sku: int(quantity) for sku, quantity in period.run.reached.items()}


def _less(used: Quantities, priced: Quantities) -> Quantities:
    return {meter: max(0, quantity - priced.get(meter, 0)) for meter, quantity in used.items()}


def _times(found: Quantities, seconds: int) -> Quantities:
    return {meter: quantity * seconds for meter, quantity in found.items()}


def _priced(
    prices: Prices, now: dt.datetime, used: Quantities, reached: Mapping[str, int]
) -> tuple[Decimal, dict[str, int]]:
    """By today's prices; and where in the tiers that leads to."""
    on = dict(reached)
    hours = [Used(hour_of(now), "", meter, quantity, Quality.EXACT) for meter, quantity in sorted(used.items())]
    return total(*(line.cost for line in rate(hours, prices.offer, on))), on


def _lately(tenant: Tenant, now: dt.datetime) -> tuple[dt.timedelta, Quantities]:
    """How long a time, and what was used in it."""
    start = hour_of(now - LOOKS_BACK)
    records = UsageRecord.objects.of(tenant).filter(window__gte=start)
    found: Quantities = {}
    _add(found, _by_meter(records))
    for tail in tails(tenant, start, hour_of(now) + DAY):
        for meter, quantity in tail.quantities.items():
            found[meter] = found.get(meter, 0) + quantity
    first = records.aggregate(first=Min("starts_at"))["first"]
    return max(now - max(start, first or start), LEAST_LOOK), found
