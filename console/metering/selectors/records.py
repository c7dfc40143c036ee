"""The records behind a figure, with the readings that each is the difference of; page by page, and their exact sums."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet, Sum, Value

from console.accounts.models import Tenant
from console.metering.models import (
    Allocation,
    Meter,
    MeterEpoch,
    Reading,
    StaleDay,
    UsageDay,
    UsageMonth,
    UsageRecord,
)
from console.metering.months import month_of
from console.metering.selectors import labels
from console.metering.selectors.labels import Label
from console.metering.selectors.tails import Tail, tails
from console.metering.sizes import METERS
from console.metering.spans import DAY, Span, day_of
from console.metering.sums import LIMB, rest, whole
from console.metering.units import SHOWN, in_units


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the records are of; empty: anything."""

    tenant: Tenant | None
    span: Span
    meter: str = ""
    container: str = ""
    image: str = ""
    quality: str = ""
    label: Label | None = None
    also: Label | None = None
    """Another label that they have, besides."""
    billed: dt.datetime | None = None
    """The month, by its first moment, whose invoice they are on: what came late is on a later one's."""


@dataclass(frozen=True, slots=True)
class Row:
    record: UsageRecord
    first: Reading | None
    """What it begins at; None: the start of the container's life, from zero, or no counter."""
    last: Reading | None

    @property
    def amount(self) -> Decimal:
        return in_units(self.record.quantity, SHOWN[Meter(self.record.meter)][1])

    @property
    def unit(self) -> str:
        return SHOWN[Meter(self.record.meter)][0]

    @property
    def from_zero(self) -> bool:
        """A counter's, or memory's, from the start of the container on.  A limit has no reading to be the difference of."""
        one = self.record
        return one.epoch_id is not None and one.from_sequence == 0 and one.meter not in METERS


@dataclass(frozen=True, slots=True)
class Total:
    meter: Meter
    records: int | None
    """None: it is made from the sums of days, which do not count them."""
    quantity: int
    since: int = 0
    """What runs has used behind its last record: figures on other pages have it, too."""

    @property
    def amount(self) -> Decimal:
        return in_units(self.quantity, SHOWN[self.meter][1])

    @property
    def amount_since(self) -> Decimal:
        return in_units(self.since, SHOWN[self.meter][1])

    @property
    def together(self) -> Decimal:
        return in_units(self.quantity + self.since, SHOWN[self.meter][1])

    @property
    def unit(self) -> str:
        return SHOWN[self.meter][0]


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    after: str
    """To ask with for the next one, or empty."""


def records(wanted: Wanted) -> QuerySet[UsageRecord]:
    found = UsageRecord.objects.filter(window__gte=wanted.span.start, window__lt=wanted.span.end)
    found = _labelled(found, wanted)
    if wanted.tenant is not None:
        found = found.filter(tenant=wanted.tenant)
    if wanted.container:  # by its lives and what it held, which have indexes; a join to both would use neither
        epochs = MeterEpoch.objects.filter(container=wanted.container).values_list("pk", flat=True)
        held = Allocation.objects.filter(identity=wanted.container).values_list("pk", flat=True)
        found = found.filter(Q(epoch__in=list(epochs)) | Q(allocation__in=list(held)))
    for name, value in (("meter", wanted.meter), ("resource__image", wanted.image), ("quality", wanted.quality)):
        if value:
            found = found.filter(**{name: value})
    return found if wanted.billed is None else found.filter(billed_in__starts_at=wanted.billed)


def _labelled(found: QuerySet[Any], wanted: Wanted) -> QuerySet[Any]:
    return labels.only(labels.only(found, wanted.tenant, wanted.label), wanted.tenant, wanted.also)


def page(wanted: Wanted, *, size: int, after: str = "") -> Page:
    """The newest hour first, from behind ``after``: what comes in meanwhile shifts nothing."""
    found = records(wanted)
    last = UsageRecord.objects.filter(pk=after).values_list("window", flat=True).first() if after else None
    if last is not None:
        found = found.filter(Q(window__lt=last) | Q(window=last, pk__gt=after), window__lte=last)
    related = found.select_related("resource", "tenant", "epoch", "allocation")
    some = list(related.order_by("-window", "pk")[: size + 1])
    rows = _with_readings(some[:size])
    return Page(rows, rows[-1].record.pk if len(some) > size else "")


def totals(wanted: Wanted) -> list[Total]:
    """Exact sums by meter.  Of what is missing nothing is known, and nothing is in a sum.

    Whole months and days are taken from their sums, however many records they have; a quality and an invoice have none.
    """
    alone = bool(wanted.quality) or wanted.billed is not None
    known = Known((), (), ((wanted.span.start, wanted.span.end),)) if alone else _known(wanted)
    within = Q(pk__in=())
    for start, end in known.hours:
        within |= Q(window__gte=start, window__lt=end)
    found: dict[str, tuple[int, int]] = {}
    for meter, large, small, count in [
        *_sums(records(wanted).filter(within), whole("quantity"), rest("quantity"), Count("pk")),
        *_sums(_summed(UsageDay.objects.filter(day__in=known.days), wanted), Sum("whole"), Sum("rest"), Sum(Value(0))),
        *_sums(
            _summed(UsageMonth.objects.filter(month__in=known.months), wanted), Sum("whole"), Sum("rest"), Sum(Value(0))
        ),
    ]:
        quantity, counted = found.get(meter, (0, 0))
        found[meter] = quantity + int(large) * LIMB + int(small), counted + count
    summed, since = bool(known.days or known.months), _since(wanted)
    totals = []
    for meter in sorted({*found, *since}):
        quantity, counted = found.get(meter, (0, 0))
        totals.append(Total(Meter(meter), None if summed else counted, quantity, since.get(meter, 0)))
    return totals


def _since(wanted: Wanted) -> dict[str, int]:
    """By meter.  It has no quality yet, and is on no invoice."""
    found: dict[str, int] = {}
    if wanted.quality or wanted.billed is not None:
        return found
    for tail in tails(wanted.tenant, wanted.span.start, wanted.span.end):
        if not _of(tail, wanted):
            continue
        for meter, quantity in tail.quantities.items():
            if quantity and wanted.meter in {"", meter}:
                found[str(meter)] = found.get(str(meter), 0) + quantity
    return found


def _of(tail: Tail, wanted: Wanted) -> bool:
    asked = [label for label in (wanted.label, wanted.also) if label is not None]
    return (
        wanted.container in {"", tail.container_id}
        and wanted.image in {"", tail.image}
        and all(tail.labels.get(label.name, "") == label.value for label in asked)
    )


class Known(NamedTuple):
    """A time, in parts of which there are sums already, and parts of which there are only records."""

    months: tuple[dt.datetime, ...]
    days: tuple[dt.datetime, ...]
    hours: tuple[tuple[dt.datetime, dt.datetime], ...]


def _known(wanted: Wanted) -> Known:
    span = wanted.span
    marks = StaleDay.objects.filter(day__gt=span.start - DAY, day__lt=span.end)
    if wanted.tenant is not None:
        marks = marks.filter(tenant=wanted.tenant)
    stale = set(marks.values_list("day", flat=True))
    stale_months = {month_of(day)[0] for day in stale}
    months: list[dt.datetime] = []
    days: list[dt.datetime] = []
    hours: list[tuple[dt.datetime, dt.datetime]] = []
    at = span.start
    while at < span.end:
        (month, month_end), day = month_of(at), day_of(at)
        if at == month and month_end <= span.end and month not in stale_months:
            months.append(at)
            at = month_end
            continue
        end = min(day + DAY, span.end)
        if end - at == DAY and day not in stale:
            days.append(at)
        elif hours and hours[-1][1] == at:
            hours[-1] = (hours[-1][0], end)
        else:
            hours.append((at, end))
        at = end
    return Known(tuple(months), tuple(days), tuple(hours))


def _summed(found: QuerySet[Any], wanted: Wanted) -> QuerySet[Any]:
    found = _labelled(found, wanted)
    asked = {
        "tenant": wanted.tenant, "meter": wanted.meter, "resource__identity": wanted.container,
        "resource__image": wanted.image,
    }  # fmt: skip
    return found.filter(**{name: value for name, value in asked.items() if value})


def _sums(found: QuerySet[Any], large: Sum, small: Sum, count: Count | Sum) -> QuerySet[Any, tuple[Any, ...]]:
    sums = found.values("meter").annotate(large=large, small=small, count=count).order_by()
    rows: QuerySet[Any, tuple[Any, ...]] = sums.values_list("meter", "large", "small", "count")
    return rows


def _with_readings(found: list[UsageRecord]) -> list[Row]:
    """One query for the readings of all."""
    keys = {
        (one.epoch_id, one.meter, sequence)
        for one in found
        for sequence in (one.from_sequence, one.to_sequence)
        if one.epoch_id is not None and sequence
    }
    wanted = Reading.objects.filter(
        epoch__in={key[0] for key in keys}, meter__in={key[1] for key in keys}, sequence__in={key[2] for key in keys}
    )
    known = {(one.epoch_id, one.meter, one.sequence): one for one in (wanted if keys else ())}

    def reading(one: UsageRecord, sequence: int | None) -> Reading | None:
        return known.get((one.epoch_id or "", one.meter, sequence or 0))

    return [Row(one, reading(one, one.from_sequence), reading(one, one.to_sequence)) for one in found]
