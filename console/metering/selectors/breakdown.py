"""Usage and cost of a time, divided by what the reader chooses: sums made by the database, of days where there are such.

Costs are those of the last rating, at most an hour old where a period is open.  ``Amount`` is exact for usage; for cost it is rounded
to a billionth of the currency a day, resource and meter, and what that leaves over is carried on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from django.db.models import Case, F, Q, QuerySet, Sum, Value, When
from django.db.models import FloatField as Float
from django.db.models.functions import Cast

from console.accounts.models import Tenant
from console.metering.models import CostDay, Meter, Period, Quality, RatedLine, StaleDay, UsageDay, UsageRecord
from console.metering.months import month_of
from console.metering.selectors.tails import tails
from console.metering.spans import DAY, Span, day_of
from console.metering.splitting import HOUR
from console.metering.sums import LIMB, rest, whole
from console.metering.units import SHOWN, in_units

By = Literal["container", "image", "meter", "tenant"]
Step = Literal["hour", "day", "month"]
COST = "cost"
NANO = 10**9
TOP = 8
KEYS: dict[By, str] = {
    "container": "resource__identity", "image": "resource__image", "meter": "meter", "tenant": "tenant_id",
}  # fmt: skip
OTHERS = "\N{BULLET}"
"""The key of everything that is not on top; no container, image or tenant is called so."""


@dataclass(frozen=True, slots=True)
class Asked:
    tenant: Tenant | None
    """None: everybody, for admins."""
    span: Span
    step: Step
    by: By
    what: str
    """``cost``, or a meter."""
    of_meter: str = ""
    """For cost: of this meter alone."""


@dataclass(slots=True)
class Part:
    key: str
    total: int = 0
    """In nanos of the currency, or base units of the meter; likewise the next two."""
    before: int = 0
    """In the time before, as long."""
    amounts: list[int] = field(default_factory=list)
    """Of each bucket; empty for what is not among the first."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    buckets: list[dt.datetime]
    parts: list[Part]
    """The largest first."""
    others: Part | None
    """What the chart shows as one: all parts behind the first :data:`TOP`."""
    size: int
    """Base units in one that is shown."""
    unit: str
    """Empty for cost: the currency is the price book's."""

    @property
    def total(self) -> int:
        return sum(part.total for part in self.parts)

    @property
    def before(self) -> int:
        return sum(part.before for part in self.parts)

    def shown(self, amount: int) -> Decimal:
        return in_units(amount, self.size)


def breakdown(asked: Asked) -> Breakdown:
    """As many queries however many containers and hours."""
    parts = {key: Part(key, amount) for key, amount in amounts(asked, asked.span).items()}
    for key, amount in amounts(asked, asked.span.before).items():
        parts.setdefault(key, Part(key)).before = amount
    ranked = sorted(parts.values(), key=lambda part: (-part.total, -part.before, part.key))
    top = {part.key: part for part in ranked[:TOP]}
    buckets = list(_buckets(asked.span, asked.step))
    places = {bucket: number for number, bucket in enumerate(buckets)}
    others = Part(OTHERS, sum(part.total for part in ranked[TOP:])) if len(ranked) > TOP else None
    for part in (*top.values(), *([others] if others else [])):
        part.amounts = [0] * len(buckets)
    for at, key, amount in _series(asked, list(top)):
        found = top.get(key, others)
        if found is not None:
            found.amounts[places[_bucket(at, asked.step)]] += amount
    unit, size = ("", NANO) if asked.what == COST else SHOWN[Meter(asked.what)]
    return Breakdown(buckets, ranked, others, size, unit)


def _bucket(at: dt.datetime, step: Step) -> dt.datetime:
    if step == "month":
        return month_of(at)[0]
    return day_of(at) if step == "day" else at


def after(bucket: dt.datetime, step: Step) -> dt.datetime:
    """Where the next one begins."""
    if step == "month":
        return month_of(bucket)[1]
    return bucket + (DAY if step == "day" else HOUR)


def _buckets(span: Span, step: Step) -> Iterator[dt.datetime]:
    at = _bucket(span.start, step)
    while at < span.end:
        yield at
        at = after(at, step)


# ------------------------------------------------------------------------------------------------ sources

Sums = Iterable[tuple[dt.datetime, str, int]]
"""When, of whom, and how much."""


def amounts(asked: Asked, span: Span) -> dict[str, int]:
    """Key -> sum over ``span``."""
    found: dict[str, int] = {}
    for _, key, amount in _sums(asked, span, None, series=False):
        found[key] = found.get(key, 0) + amount
    return found


def _series(asked: Asked, top: Sequence[str]) -> Sums:
    return _sums(asked, asked.span, top, series=True)


def _sums(asked: Asked, span: Span, top: Sequence[str] | None, *, series: bool) -> Sums:
    """By key, and in series by day or hour too; with ``top`` all other keys are one."""
    if asked.what == COST:
        rows = _cost_hours if asked.step == "hour" else _cost_days
        yield from rows(asked, span, top, series=series)
        return
    yield from _usage(asked, span, top, series=series)
    yield from _tails(asked, span)


def _of(asked: Asked, found: QuerySet[Any]) -> QuerySet[Any]:
    return found if asked.tenant is None else found.filter(tenant=asked.tenant)


def _grouped(found: QuerySet[Any], key: str, at: str, top: Sequence[str] | None, *, series: bool) -> QuerySet[Any]:
    named = F(key) if top is None else Case(When(**{f"{key}__in": top}, then=F(key)), default=Value(OTHERS))
    groups = {"key": named, "at": F(at)} if series else {"key": named}
    return found.values(**groups)


def _cost_days(asked: Asked, span: Span, top: Sequence[str] | None, *, series: bool) -> Sums:
    days = _of(asked, CostDay.objects.filter(run__current_of__isnull=False, day__gte=span.start, day__lt=span.end))
    if asked.of_meter:
        days = days.filter(meter=asked.of_meter)
    for row in _grouped(days, KEYS[asked.by], "day", top, series=series).annotate(sum=Sum("nanos")).order_by():
        yield row.get("at", span.start), row["key"], int(row["sum"])


def _cost_hours(asked: Asked, span: Span, top: Sequence[str] | None, *, series: bool) -> Sums:
    """Lines are found by their numbers, which the rating knows by the day.  Their tenant is their resource's."""
    periods = Period.objects.filter(run__isnull=False, starts_at__lt=span.end, ends_at__gt=span.start)
    wanted = Q(pk__in=())
    for period in _of(asked, periods).select_related("run"):
        assert period.run is not None
        days = (f"{span.start + DAY * number:%Y-%m-%d}" for number in range((span.end - span.start) // DAY + 2))
        numbers = [period.run.numbers[day] for day in days if day in period.run.numbers]
        if numbers:
            wanted |= Q(run=period.run, number__gte=numbers[0][0], number__lte=numbers[-1][1])
    lines = RatedLine.objects.filter(wanted, window__gte=span.start, window__lt=span.end)
    key = "resource__tenant_id" if asked.by == "tenant" else KEYS[asked.by]
    grouped = _grouped(lines, key, "window", top, series=series)
    for row in grouped.annotate(sum=Sum(Cast("cost", Float()))).order_by():
        yield row.get("at", span.start), row["key"], round(row["sum"] * NANO)


def _usage(asked: Asked, span: Span, top: Sequence[str] | None, *, series: bool) -> Sums:
    """Of whole days from their sums; of the hour's step, and of days whose sum is not made yet, from the records."""
    records = UsageRecord.objects.filter(meter=asked.what, window__gte=span.start, window__lt=span.end)
    if asked.step != "hour":
        stale = {day for (day,) in _of(asked, StaleDay.objects.all()).values_list("day").distinct()}
        days = _of(asked, UsageDay.objects.filter(meter=asked.what, day__gte=span.start, day__lt=span.end))
        yield from _halved(_grouped(days.exclude(day__in=stale), KEYS[asked.by], "day", top, series=series), span,
                           Sum("whole"), Sum("rest"))  # fmt: skip
        within = Q(pk__in=())
        for day in stale:
            within |= Q(window__gte=day, window__lt=day + DAY)
        records = records.filter(within)
    known = _of(asked, records.exclude(quality=Quality.MISSING))
    grouped = _grouped(known, KEYS[asked.by], "window", top, series=series)
    yield from _halved(grouped, span, whole("quantity"), rest("quantity"))


def _halved(grouped: QuerySet[Any], span: Span, large: Sum, small: Sum) -> Sums:
    for row in grouped.annotate(large=large, small=small).order_by():
        yield row.get("at", span.start), row["key"], int(row["large"]) * LIMB + int(row["small"])


def _tails(asked: Asked, span: Span) -> Sums:
    """What runs has used since its last record."""
    for tail in tails(asked.tenant, span.start, span.end):
        key = {"container": tail.container_id, "image": tail.image, "tenant": tail.tenant_id, "meter": asked.what}[
            asked.by
        ]
        yield tail.window, key, tail.quantities.get(asked.what, 0)
