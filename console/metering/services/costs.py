"""Costs by the day and the month, summed while a period is rated."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal

from django.db import transaction
from django.db.models import Exists, OuterRef

from console.metering.models import CostDay, CostMonth, RatedLine, RatingRun
from console.metering.months import month_of
from console.metering.rating import Line
from console.metering.rows import insert
from console.metering.services.summary import Summary
from console.metering.spans import day_of
from console.metering.sums import LIMB
from console.metering.units import EXACT, total

FIELDS = ("run_id", "tenant_id", "day", "resource_id", "meter", "whole", "rest", "nanos")
MONTH_FIELDS = ("run_id", "tenant_id", "month", "resource_id", "meter", "nanos")
NANOS = 9
AT_ONCE = 2000
Key = tuple[str, str]
"""Resource and meter."""


class CostDays:
    """Of one rating, whose lines come in order of time, and behind them its corrections, in theirs; a day is stored when the next begins, so
    one is all that is held.
    """

    def __init__(self, run: RatingRun, tenant: str, before: Decimal = Decimal(0), *, taken_away: bool = False) -> None:
        """``before``: what the lines before the first one cost.  ``taken_away``: the sums are below zero."""
        self.numbers: dict[str, list[int]] = {}
        self._run, self._tenant, self._sign = run, tenant, -1 if taken_away else 1
        self._hour: dict[Key, tuple[int, Decimal]] = {}
        self._sums: dict[Key, tuple[int, int]] = {}
        """Of the day, in base units and nanos."""
        self._window: dt.datetime | None = None
        self._months: dict[tuple[dt.datetime, str, str], int] = {}
        self._cost, self._told = before, int(_nanos(before))

    def add(self, lines: Iterable[Line], first: int) -> None:
        """``first``: the number of the first of them."""
        for number, line in enumerate(lines, first):
            self._next(line.window)
            if not line.correction:
                self.numbers.setdefault(f"{line.window:%Y-%m-%d}", [number, number])[1] = number
            key = (line.resource, line.meter)
            quantity, cost = self._hour.get(key, (0, Decimal(0)))
            self._hour[key] = quantity + line.quantity, total(cost, line.cost)

    @transaction.atomic
    def finish(self) -> None:
        """The day that is held, and the months."""
        self._store()
        rows = [(self._run.pk, self._tenant, *key, self._months[key]) for key in sorted(self._months)]
        insert(CostMonth, MONTH_FIELDS, rows)

    def _next(self, window: dt.datetime) -> None:
        if self._window is not None and window != self._window:
            if day_of(window) == day_of(self._window):
                self._sum_hour()
            else:
                self._store()
        self._window = window

    def _sum_hour(self) -> None:
        """What rounding leaves over goes on to the next, so that all sum to the whole, and to the same whichever hour one begins at."""
        for key in sorted(self._hour):
            quantity, cost = self._hour[key]
            self._cost = total(self._cost, cost)
            reached = int(_nanos(self._cost))
            nanos, self._told = reached - self._told, reached
            before = self._sums.get(key, (0, 0))
            self._sums[key] = before[0] + self._sign * quantity, before[1] + self._sign * nanos
        self._hour.clear()

    def _store(self) -> None:
        if self._window is None:
            return
        self._sum_hour()
        day = day_of(self._window)
        month = month_of(day)[0]
        for key, (_, nanos) in self._sums.items():
            self._months[month, *key] = self._months.get((month, *key), 0) + nanos
        with transaction.atomic():
            insert(CostDay, FIELDS, _rows(self._run, self._tenant, day, self._sums))
        self._sums.clear()


def _rows(
    run: RatingRun, tenant: str, day: dt.datetime, sums: Mapping[Key, tuple[int, int]]
) -> list[tuple[object, ...]]:
    return [(run.pk, tenant, day, *key, *divmod(sums[key][0], LIMB), sums[key][1]) for key in sorted(sums)]


def move(other: RatingRun, run: RatingRun, tenant: str) -> None:
    """Adds the sums of ``other`` to those of ``run``, in this transaction."""
    for day in list(other.days.values_list("day", flat=True).distinct().order_by("day")):
        found = CostDay.objects.filter(run__in=(run, other), day=day)
        sums: dict[Key, tuple[int, int]] = {}
        for resource, meter, large, small, nanos in found.values_list(
            "resource_id", "meter", "whole", "rest", "nanos"
        ).iterator(AT_ONCE):
            before = sums.get((resource, meter), (0, 0))
            sums[resource, meter] = before[0] + large * LIMB + small, before[1] + nanos
        found.delete()
        insert(CostDay, FIELDS, _rows(run, tenant, day, sums))
    for month in list(other.months.values_list("month", flat=True).distinct().order_by("month")):
        within = CostMonth.objects.filter(run__in=(run, other), month=month)
        costs: dict[Key, int] = {}
        for resource, meter, nanos in within.values_list("resource_id", "meter", "nanos").iterator(AT_ONCE):
            costs[resource, meter] = costs.get((resource, meter), 0) + nanos
        within.delete()
        insert(CostMonth, MONTH_FIELDS, [(run.pk, tenant, month, *key, costs[key]) for key in sorted(costs)])


def _nanos(cost: Decimal) -> Decimal:
    wide = EXACT.copy()
    wide.clear_traps()
    return cost.scaleb(NANOS, wide).quantize(Decimal(1), ROUND_HALF_EVEN, wide)


def catch_up() -> int:
    """Ratings that count and were made before there were such sums; returns how many."""
    rated = RatingRun.objects.filter(current_of__isnull=False, lines_count__gt=0).select_related("period")
    late = list(rated.exclude(Exists(CostMonth.objects.filter(run=OuterRef("pk")))))
    for run in late:
        _sum(run)
    return len(late)


@transaction.atomic
def _sum(run: RatingRun) -> None:
    run.days.all().delete()
    days, summary = CostDays(run, run.period.tenant_id), Summary()
    for stored in run.lines.order_by("number").iterator(AT_ONCE):
        lines = [line(stored)]
        days.add(lines, stored.number)
        summary.add(lines)
    days.finish()
    RatingRun.objects.filter(pk=run.pk).update(numbers=days.numbers, summary=summary.rows())


def line(stored: RatedLine) -> Line:
    return Line(
        window=stored.window, resource=stored.resource_id, meter=stored.meter, sku=stored.sku, tier=stored.tier,
        unit=stored.unit, quantity=int(stored.quantity), pricing_quantity=stored.pricing_quantity,
        list_unit_price=stored.list_unit_price, unit_price=stored.unit_price, list_cost=stored.list_cost, cost=stored.cost,
        book=stored.book_id or 0, list_book=stored.list_book_id or 0, quality=stored.quality, correction=stored.correction,
    )  # fmt: skip
