"""Usage that came when its period was closed: the difference that it makes to that period, as lines of an open one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from console.metering.models import Period, Quality, RatedLine, UsageRecord
from console.metering.rating import Line, rate
from console.metering.selectors.hours import summed
from console.metering.selectors.prices import Prices
from console.metering.units import difference, in_units, total

Key = tuple[dt.datetime, str, str]
"""Hour, resource, SKU."""


@dataclass(slots=True)
class Sums:
    quantity: int = 0
    list_cost: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)


def corrections(period: Period, prices: Prices) -> Iterator[Line]:
    """What is billed in ``period`` and lies before it: each earlier period rated anew, less what it was billed by now."""
    late = UsageRecord.objects.filter(billed_in=period, window__lt=period.starts_at)
    months = Period.objects.filter(tenant=period.tenant_id, starts_at__lt=period.starts_at).order_by("starts_at")
    for earlier in months:
        meters = set(
            late.filter(window__gte=earlier.starts_at, window__lt=earlier.ends_at).values_list("meter", flat=True)
        )
        if meters:
            yield from _differences(earlier, period, meters, prices)


def _differences(earlier: Period, period: Period, meters: set[str], prices: Prices) -> Iterator[Line]:
    known = UsageRecord.objects.filter(
        tenant=period.tenant_id, meter__in=meters, window__gte=earlier.starts_at, window__lt=earlier.ends_at,
        billed_in__starts_at__lte=period.starts_at,
    )  # fmt: skip
    hours = list(summed(known))
    billed = _billed(earlier, period, meters)
    anew: dict[Key, tuple[Sums, Line]] = {}
    for line in rate(hours, prices.offer):
        sums, _ = anew.setdefault((line.window, line.resource, line.sku), (Sums(), line))
        _add(sums, line.quantity, line.list_cost, line.cost)
    for key in sorted(anew):
        sums, line = anew[key]
        was = billed.get(key, Sums())
        offer = prices.offer(line.meter, line.window)
        if sums != was and offer is not None:
            yield _correction(line, offer[0].size, sums, was)


def _billed(earlier: Period, period: Period, meters: set[str]) -> dict[Key, Sums]:
    """In the period itself and in the corrections of those since."""
    found: dict[Key, Sums] = {}
    lines = RatedLine.objects.filter(
        run__current_of__tenant=period.tenant_id,
        run__current_of__starts_at__lt=period.starts_at,
        window__gte=earlier.starts_at,
        window__lt=earlier.ends_at,
        meter__in=meters,
    )
    for line in lines.iterator(chunk_size=2000):
        sums = found.setdefault((line.window, line.resource_id, line.sku), Sums())
        _add(sums, int(line.quantity), line.list_cost, line.cost)
    return found


def _add(sums: Sums, quantity: int, list_cost: Decimal, cost: Decimal) -> None:
    sums.quantity += quantity
    sums.list_cost, sums.cost = total(sums.list_cost, list_cost), total(sums.cost, cost)


def _correction(line: Line, size: int, sums: Sums, was: Sums) -> Line:
    quantity = sums.quantity - was.quantity
    return Line(
        window=line.window, resource=line.resource, meter=line.meter, sku=line.sku, tier="", unit=line.unit,
        quantity=quantity, pricing_quantity=in_units(quantity, size), list_unit_price=None, unit_price=None,
        list_cost=difference(sums.list_cost, was.list_cost), cost=difference(sums.cost, was.cost), book=line.book,
        list_book=line.list_book, quality=Quality.EXACT, correction=True,
    )  # fmt: skip
