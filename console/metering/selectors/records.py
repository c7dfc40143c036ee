"""The records behind a figure, with the readings that each is the difference of; page by page, and their exact sums."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Count, Q, QuerySet

from console.accounts.models import Tenant
from console.metering.models import Meter, Reading, UsageRecord
from console.metering.selectors import labels
from console.metering.selectors.labels import Label
from console.metering.sizes import METERS
from console.metering.spans import Span
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
    records: int
    quantity: int

    @property
    def amount(self) -> Decimal:
        return in_units(self.quantity, SHOWN[self.meter][1])

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
    found = labels.only(found, wanted.tenant, wanted.label)
    if wanted.tenant is not None:
        found = found.filter(tenant=wanted.tenant)
    if wanted.container:  # by the lives of it, which have an index
        of_epochs = Q(epoch__container_id=wanted.container)
        found = found.filter(of_epochs | Q(allocation__identity=wanted.container))
    for name, value in (("meter", wanted.meter), ("resource__image", wanted.image), ("quality", wanted.quality)):
        if value:
            found = found.filter(**{name: value})
    return found


def page(wanted: Wanted, *, size: int, after: str = "") -> Page:
    """The newest hour first, from behind ``after``: what comes in meanwhile shifts nothing."""
    found = records(wanted)
    last = UsageRecord.objects.filter(pk=after).values_list("window", flat=True).first() if after else None
    if last is not None:
        found = found.filter(Q(window__lt=last) | Q(window=last, pk__gt=after))
    related = found.select_related("resource", "tenant", "epoch", "allocation")
    some = list(related.order_by("-window", "pk")[: size + 1])
    rows = _with_readings(some[:size])
    return Page(rows, rows[-1].record.pk if len(some) > size else "")


def totals(wanted: Wanted) -> list[Total]:
    """Exact sums by meter.  Of what is missing nothing is known, and nothing is in a sum."""
    sums = records(wanted).values("meter").annotate(records=Count("pk"), whole=whole("quantity"), rest=rest("quantity"))
    return [
        Total(Meter(row["meter"]), row["records"], row["whole"] * LIMB + row["rest"]) for row in sums.order_by("meter")
    ]


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
