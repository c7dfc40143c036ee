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

from django.db.models import FloatField as Float
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import Cast

from console.accounts.models import Tenant
from console.metering.models import (
    CostDay,
    CostMonth,
    Meter,
    Period,
    Quality,
    RatedLine,
    RatingRun,
    Resource,
    StaleDay,
    UsageDay,
    UsageMonth,
    UsageRecord,
)
from console.metering.months import month_of
from console.metering.selectors import labels
from console.metering.selectors.labels import Label
from console.metering.selectors.tails import Tail, tails
from console.metering.spans import DAY, Span, day_of
from console.metering.splitting import HOUR
from console.metering.sums import LIMB, rest, whole
from console.metering.units import SHOWN, in_units

By = Literal["container", "image", "meter", "tenant", "label"]
"""``container``: also volumes, which are metered by themselves."""
Step = Literal["hour", "day", "month"]
COST = "cost"
NANO = 10**9
TOP = 8
KEYS: tuple[By, ...] = ("container", "image", "meter", "tenant")
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
    label: str = ""
    """By label: its name."""
    only: Label | None = None
    """Of what has this label."""


@dataclass(slots=True)
class Part:
    key: str
    total: int = 0
    """In nanos of the currency, or base units of the meter; likewise the next two."""
    before: int = 0
    """In the time before, as long."""
    amounts: list[int] = field(default_factory=list)
    """Of each bucket."""


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
    buckets = list(_buckets(asked.span, asked.step))
    places = {bucket: number for number, bucket in enumerate(buckets)}
    parts: dict[str, Part] = {}
    for at, key, amount in _sums(asked, asked.span, series=True):
        part = parts.get(key) or parts.setdefault(key, Part(key, amounts=[0] * len(buckets)))
        part.total += amount
        part.amounts[places[_bucket(at, asked.step)]] += amount
    for key, amount in amounts(asked, span_before(asked)).items():
        parts.setdefault(key, Part(key, amounts=[0] * len(buckets))).before = amount
    ranked = sorted(parts.values(), key=lambda part: (-part.total, -part.before, part.key))
    unit, size = ("", NANO) if asked.what == COST else SHOWN[Meter(asked.what)]
    return Breakdown(buckets, ranked, _together(ranked[TOP:], len(buckets)), size, unit)


def span_before(asked: Asked) -> Span:
    """As long, and just before it; of months as many."""
    if asked.step != "month":
        return asked.span.before
    start = asked.span.start
    for _bucket_of in _buckets(asked.span, "month"):
        start = month_of(start - DAY)[0]
    return Span(start, asked.span.start)


def _together(left: Sequence[Part], buckets: int) -> Part | None:
    if not left:
        return None
    sums = [sum(part.amounts[number] for part in left) for number in range(buckets)]
    return Part(OTHERS, sum(part.total for part in left), sum(part.before for part in left), sums)


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
"""When, of whom, and how much.  Grouped by columns that the summed tables have themselves: what a resource is called comes after."""


def amounts(asked: Asked, span: Span) -> dict[str, int]:
    """Key -> sum over ``span``."""
    found: dict[str, int] = {}
    for _, key, amount in _sums(asked, span, series=False):
        found[key] = found.get(key, 0) + amount
    return found


def _sums(asked: Asked, span: Span, *, series: bool) -> Sums:
    """By key, and in a series by hour, day or month too."""
    if asked.what == COST:
        rows = list((_cost_hours if asked.step == "hour" else _costs)(asked, span, series=series))
    else:
        rows = list(_usage(asked, span, series=series))
    keys = _keys(asked, {group for _, group, _ in rows})
    for at, group, amount in rows:
        yield at, keys.get(group, group), amount
    if asked.what != COST:
        yield from _tails(asked, span)


def _keys(asked: Asked, groups: set[str]) -> dict[str, str]:
    """What a resource is a part of."""
    column = {"container": "identity", "image": "image"}.get(asked.by)
    if asked.by == "tenant" and asked.what == COST and asked.step == "hour":
        column = "tenant_id"  # a line's tenant is its resource's
    if asked.by == "label":
        known = labels.values(asked.tenant, asked.label)
        return {group: known.get(group, "") for group in groups}
    if column is None:
        return {}
    found = _of(asked, Resource.objects.all())
    return dict(found.filter(pk__in=groups).values_list("pk", column))


def _of(asked: Asked, found: QuerySet[Any]) -> QuerySet[Any]:
    return found if asked.tenant is None else found.filter(tenant=asked.tenant)


def _grouped(
    found: QuerySet[Any], asked: Asked, at: str, *, series: bool, **sums: Sum
) -> QuerySet[Any, tuple[Any, ...]]:
    """Rows of the group, the moment where it is a series, and the sums."""
    found = labels.only(found, asked.tenant, asked.only)
    group = {"meter": "meter", "tenant": "tenant_id"}.get(asked.by, "resource_id")
    if group == "tenant_id" and found.model is RatedLine:
        group = "resource_id"
    names = (group, at) if series else (group,)
    rows: QuerySet[Any, tuple[Any, ...]] = found.values(*names).annotate(**sums).values_list(*names, *sums).order_by()
    return rows


def _runs(asked: Asked, span: Span) -> list[int]:
    """The ratings that may have something in ``span``: those that count of its months, and of later ones, which may correct it."""
    rated = _of(asked, Period.objects.filter(run__isnull=False, ends_at__gt=span.start))
    return list(rated.values_list("run", flat=True))


def _costs(asked: Asked, span: Span, *, series: bool) -> Sums:
    model, at = (CostMonth, "month") if asked.step == "month" else (CostDay, "day")
    within = {f"{at}__gte": span.start, f"{at}__lt": span.end, "run__in": _runs(asked, span)}
    found = _of(asked, model.objects.filter(**within))
    if asked.of_meter:
        found = found.filter(meter=asked.of_meter)
    for row in _grouped(found, asked, at, series=series, sum=Sum("nanos")):
        yield row[1] if series else span.start, row[0], int(row[-1])


def _cost_hours(asked: Asked, span: Span, *, series: bool) -> Sums:
    """Lines are found by their numbers, which the rating knows by the day; corrections, of whichever hours, come after all days."""
    days = [f"{span.start + DAY * number:%Y-%m-%d}" for number in range((span.end - span.start) // DAY + 2)]
    wanted = Q(pk__in=())
    for run in RatingRun.objects.filter(pk__in=_runs(asked, span)):
        within = [run.numbers[day] for day in days if day in run.numbers]
        if within:
            wanted |= Q(run=run, number__gte=within[0][0], number__lte=within[-1][1])
        last = max((end for _, end in run.numbers.values()), default=0)
        if run.lines_count > last:
            wanted |= Q(run=run, number__gt=last)
    lines = RatedLine.objects.filter(wanted, window__gte=span.start, window__lt=span.end)
    for row in _grouped(lines, asked, "window", series=series, sum=Sum(Cast("cost", Float()))):
        yield row[1] if series else span.start, row[0], round(row[-1] * NANO)


def _usage(asked: Asked, span: Span, *, series: bool) -> Sums:
    """Of days and months from their sums; of the hour's step, and of days whose sum is not made yet, from the records."""
    records = UsageRecord.objects.filter(meter=asked.what, window__gte=span.start, window__lt=span.end)
    if asked.step != "hour":
        within = StaleDay.objects.filter(day__gte=span.start, day__lt=span.end)
        stale = sorted({day for (day,) in _of(asked, within).values_list("day").distinct()})
        days = _of(asked, UsageDay.objects.filter(meter=asked.what, day__gte=span.start, day__lt=span.end))
        if asked.step == "month":
            months = UsageMonth.objects.filter(meter=asked.what, month__gte=span.start, month__lt=span.end)
            yield from _halved(_of(asked, months), asked, "month", span, series, Sum("whole"), Sum("rest"))
            for at, key, amount in _halved(
                days.filter(day__in=stale), asked, "day", span, series, Sum("whole"), Sum("rest")
            ):
                yield at, key, -amount
        else:
            yield from _halved(days.exclude(day__in=stale), asked, "day", span, series, Sum("whole"), Sum("rest"))
        wanted = Q(pk__in=())
        for day in stale:
            wanted |= Q(window__gte=day, window__lt=day + DAY)
        records = records.filter(wanted)
    known = _of(asked, records.exclude(quality=Quality.MISSING))
    yield from _halved(known, asked, "window", span, series, whole("quantity"), rest("quantity"))


def _halved(
    found: QuerySet[Any], asked: Asked, at: str, span: Span, series: bool, large: Sum, small: Sum
) -> Sums:  # fmt: skip
    for row in _grouped(found, asked, at, series=series, large=large, small=small):
        yield row[1] if series else span.start, row[0], int(row[-2]) * LIMB + int(row[-1])


def _tails(asked: Asked, span: Span) -> Sums:
    """What runs has used since its last record; nothing of a meter that it does not have, or of which the kernel says nothing."""
    for tail in tails(asked.tenant, span.start, span.end):
        quantity = tail.quantities.get(asked.what)
        wanted = asked.only is None or tail.labels.get(asked.only.name, "") == asked.only.value
        if wanted and quantity is not None:
            yield tail.window, _key(asked, tail), quantity


def _key(asked: Asked, tail: Tail) -> str:
    of_tail = {
        "container": tail.container_id, "image": tail.image, "tenant": tail.tenant_id, "meter": asked.what,
        "label": tail.labels.get(asked.label, ""),
    }  # fmt: skip
    return of_tail[asked.by]
