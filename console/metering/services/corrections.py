"""Usage that came when its period was closed: the difference that it makes to that period, as lines of an open one.

An hour of it is held at a time, however long the period was: both what is rated anew and what was billed come in order of time.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from typing import NamedTuple

from django.db.models import Min, QuerySet

from console.metering.models import Invoice, Period, Quality, RatedLine, RatingRun, UsageRecord
from console.metering.months import month_of
from console.metering.rating import Line, rate
from console.metering.selectors.hours import by_hour
from console.metering.selectors.prices import Prices
from console.metering.units import difference, in_units, total

AT_ONCE = 2000
Key = tuple[str, str]
"""Resource and SKU, of one hour."""


class Month(NamedTuple):
    """One before the period: closed, or one in which nothing was used as far as anybody knew then."""

    starts_at: dt.datetime
    ends_at: dt.datetime


@dataclass(slots=True)
class Sums:
    quantity: int = 0
    list_cost: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)


def corrections(period: Period, prices: Prices) -> Iterator[Line]:
    """What is billed in ``period`` and lies before it: each earlier month rated anew, less what it was billed by now."""
    late = UsageRecord.objects.filter(billed_in=period, window__lt=period.starts_at)
    for earlier in _months(late):
        within = late.filter(window__gte=earlier.starts_at, window__lt=earlier.ends_at)
        yield from _differences(earlier, period, set(within.values_list("meter", flat=True).distinct()), prices)


def origin(period: Period) -> str:
    """What the corrections that are billed in ``period`` come of, but for the prices: while it is the same, so are they.  Empty where an earlier
    month is not closed, and may become another.
    """
    earlier = Period.objects.filter(tenant=period.tenant_id, starts_at__lt=period.starts_at)
    if earlier.exclude(state=Period.State.CLOSED).exists():
        return ""
    late = UsageRecord.objects.filter(billed_in=period, window__lt=period.starts_at).count()
    last = Invoice.objects.filter(period__in=earlier).order_by("-period__starts_at").first()
    return f"{late} {'' if last is None else last.sha256}"


def _months(late: QuerySet[UsageRecord]) -> Iterator[Month]:
    """In which there are records, in order."""
    first = late.aggregate(first=Min("window"))["first"]
    while first is not None:
        month = Month(*month_of(first))
        yield month
        first = late.filter(window__gte=month.ends_at).aggregate(first=Min("window"))["first"]


def _differences(earlier: Month, period: Period, meters: Collection[str], prices: Prices) -> Iterator[Line]:
    known = UsageRecord.objects.filter(
        tenant=period.tenant_id, meter__in=meters, billed_in__starts_at__lte=period.starts_at
    )
    billed = _Billed(earlier, period, meters)
    reached: dict[str, int] = {}
    for hour in by_hour(known, earlier.starts_at, earlier.ends_at):
        lines = list(rate(hour, prices.offer, reached))
        anew, was = _summed(lines), billed.of(hour[0].window)
        first = {(line.resource, line.sku): line for line in reversed(lines)}
        for key in sorted(anew):
            line, before = first[key], was.get(key, Sums())
            offer = prices.offer(line.meter, line.window)
            if anew[key] != before and offer is not None:
                yield _correction(line, offer[0].size, anew[key], before)


class _Billed:
    """What an earlier month was billed by now, in its own period and in the corrections of those since."""

    def __init__(self, earlier: Month, period: Period, meters: Collection[str]) -> None:
        runs = RatingRun.objects.filter(
            current_of__tenant=period.tenant_id,
            current_of__starts_at__gte=earlier.starts_at,
            current_of__starts_at__lt=period.starts_at,
        )
        lines = heapq.merge(
            *(_lines(run, earlier, meters) for run in runs.select_related("period")), key=lambda line: line.window
        )
        self._hours = groupby(lines, key=lambda line: line.window)
        self._next = next(self._hours, None)

    def of(self, window: dt.datetime) -> dict[Key, Sums]:
        """Asked for in order of time, each hour once."""
        while self._next is not None and self._next[0] < window:
            self._next = next(self._hours, None)
        if self._next is None or self._next[0] > window:
            return {}
        return _summed(self._next[1])


def _lines(run: RatingRun, earlier: Month, meters: Collection[str]) -> Iterator[RatedLine]:
    """Of the earlier month, in order of time, which is that of their numbers; no query stays open, so whoever asks may write."""
    own = run.period.starts_at == earlier.starts_at
    number = 0 if own else max((last for _first, last in run.numbers.values()), default=0)
    found = run.lines.filter(window__gte=earlier.starts_at, window__lt=earlier.ends_at, meter__in=meters)
    while page := list(found.filter(number__gt=number).order_by("number")[:AT_ONCE]):
        yield from page
        number = page[-1].number


def _summed(lines: Iterable[Line | RatedLine]) -> dict[Key, Sums]:
    found: dict[Key, Sums] = {}
    for line in lines:
        resource = line.resource_id if isinstance(line, RatedLine) else line.resource
        sums = found.setdefault((resource, line.sku), Sums())
        sums.quantity += int(line.quantity)
        sums.list_cost, sums.cost = total(sums.list_cost, line.list_cost), total(sums.cost, line.cost)
    return found


def _correction(line: Line, size: int, sums: Sums, was: Sums) -> Line:
    quantity = sums.quantity - was.quantity
    return Line(
        window=line.window, resource=line.resource, meter=line.meter, sku=line.sku, tier="", unit=line.unit,
        quantity=quantity, pricing_quantity=in_units(quantity, size), list_unit_price=None, unit_price=None,
        list_cost=difference(sums.list_cost, was.list_cost), cost=difference(sums.cost, was.cost), book=line.book,
        list_book=line.list_book, quality=Quality.EXACT, correction=True,
    )  # fmt: skip
