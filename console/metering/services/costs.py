"""Costs by the day and the month, summed while a period is rated."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
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


class CostDays:
    """Of one rating, whose lines come in order of time, and behind them its corrections, in theirs; a day is stored when the next begins, so
    one is all that is held.
    """

    def __init__(self, run: RatingRun, tenant: str) -> None:
        self.numbers: dict[str, list[int]] = {}
        self._run, self._tenant = run, tenant
        self._sums: dict[tuple[dt.datetime, str, str], tuple[int, Decimal]] = {}
        self._day: dt.datetime | None = None
        self._months: dict[tuple[dt.datetime, str, str], int] = {}
        self._cost, self._told = Decimal(0), 0

    def add(self, lines: Iterable[Line], first: int) -> None:
        """``first``: the number of the first of them."""
        for number, line in enumerate(lines, first):
            day = day_of(line.window)
            self._next(day)
            if not line.correction:
                self.numbers.setdefault(f"{day:%Y-%m-%d}", [number, number])[1] = number
            key = (day, line.resource, line.meter)
            quantity, cost = self._sums.get(key, (0, Decimal(0)))
            self._sums[key] = quantity + line.quantity, total(cost, line.cost)

    def finish(self) -> None:
        """The day that is held, and the months."""
        self._store()
        rows = [(self._run.pk, self._tenant, *key, self._months[key]) for key in sorted(self._months)]
        insert(CostMonth, MONTH_FIELDS, rows)

    def _store(self) -> None:
        insert(CostDay, FIELDS, [self._row(*key, *self._sums[key]) for key in sorted(self._sums)])
        self._sums.clear()

    def _next(self, day: dt.datetime) -> None:
        if self._day is not None and day != self._day:
            self._store()
        self._day = day

    def _row(self, day: dt.datetime, resource: str, meter: str, quantity: int, cost: Decimal) -> tuple[object, ...]:
        """What rounding leaves over goes on to the next row, so that the rows sum to the whole."""
        self._cost = total(self._cost, cost)
        reached = int(_nanos(self._cost))
        nanos, self._told = reached - self._told, reached
        month = (month_of(day)[0], resource, meter)
        self._months[month] = self._months.get(month, 0) + nanos
        return (self._run.pk, self._tenant, day, resource, meter, *divmod(quantity, LIMB), nanos)


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
    for stored in run.lines.order_by("number").iterator(chunk_size=2000):
        lines = [_line(stored)]
        days.add(lines, stored.number)
        summary.add(lines)
    days.finish()
    RatingRun.objects.filter(pk=run.pk).update(numbers=days.numbers, summary=summary.rows())


def _line(stored: RatedLine) -> Line:
    return Line(
        window=stored.window, resource=stored.resource_id, meter=stored.meter, sku=stored.sku, tier=stored.tier,
        unit=stored.unit, quantity=int(stored.quantity), pricing_quantity=stored.pricing_quantity,
        list_unit_price=stored.list_unit_price, unit_price=stored.unit_price, list_cost=stored.list_cost, cost=stored.cost,
        book=stored.book_id or 0, list_book=stored.list_book_id or 0, quality=stored.quality, correction=stored.correction,
    )  # fmt: skip
