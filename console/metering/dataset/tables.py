"""The tables of the data set: their columns, what each means, and their rows.

``usage`` and ``costs`` come by calendar month or day, UTC, so that what is over is written once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import pyarrow as pa
from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from console.accounts.models import Tenant
from console.metering.models import Meter, Period, RatedLine, UsageRecord
from console.metering.spans import DAY
from console.metering.units import SHOWN
from console.workloads.models import Container

TIME, TEXT, WHOLE, REAL, YES_NO = pa.timestamp("us", tz="UTC"), pa.string(), pa.int64(), pa.float64(), pa.bool_()
MONEY = pa.decimal128(38, 18)
DIGITS = Decimal("1e-18")
WIDE = Context(prec=38)
AT_ONCE = 5000
Rows = Iterator[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: pa.DataType
    means: str | Promise


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    means: str | Promise
    columns: tuple[Column, ...]
    rows: Callable[[Tenant, dt.datetime, dt.datetime], Rows]
    """Of the hours from the first moment to before the second."""

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(column.name, column.type) for column in self.columns])


_OF_A_RESOURCE = (
    Column("id", TEXT, _("the container's id; for a volume or a port its own")),
    Column("name", TEXT, _("its name at that time")),
    Column("image", TEXT, _("its image's reference")),
    Column("kind", TEXT, _("container, port or volume")),
)
_UNITS = {meter: (unit, size) for meter, (unit, size) in SHOWN.items()}


def _usage(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> Rows:
    found = UsageRecord.objects.filter(tenant=tenant, window__gte=start, window__lt=end).order_by("window", "id")
    fields = (
        "resource__identity", "resource__name", "resource__image", "resource__kind", "meter", "window", "starts_at",
        "ends_at", "quantity", "quality",
    )  # fmt: skip
    for *resource, meter, window, starts_at, ends_at, quantity, quality in found.values_list(*fields).iterator(AT_ONCE):
        unit, size = _UNITS[Meter(meter)]
        yield (*resource, meter, window, starts_at, ends_at, quantity, quantity / size, unit, quality)


def _costs(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> Rows:
    """Of a month with its corrections, of a day without."""
    for period in _periods(tenant, start, end):
        lines = RatedLine.objects.filter(run__current_of=period)
        if end - start <= DAY:
            first, last = period.run.numbers.get(f"{start:%Y-%m-%d}", (0, 0)) if period.run else (0, 0)
            lines = lines.filter(number__gte=first, number__lte=last)
        yield from _priced(period, lines)


def late_costs(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> Rows:
    """The corrections that are billed in a month: they come last."""
    for period in _periods(tenant, start, end):
        last = max((last for _first, last in period.run.numbers.values()), default=0) if period.run else 0
        yield from _priced(period, RatedLine.objects.filter(run__current_of=period, number__gt=last))


def _periods(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> QuerySet[Period]:
    found = Period.objects.of(tenant).filter(starts_at__lt=end, ends_at__gt=start).order_by("starts_at")
    return found.select_related("invoice", "run")


def _priced(period: Period, lines: QuerySet[RatedLine]) -> Rows:
    invoice = period.invoice.number if hasattr(period, "invoice") else None
    currency = period.run.currency if period.run else ""
    fields = (
        "resource__identity", "resource__name", "resource__image", "resource__kind", "meter", "window", "sku", "tier",
        "pricing_quantity", "unit", "unit_price", "cost", "correction",
    )  # fmt: skip
    found = lines.order_by("number").values_list(*fields)
    for *facts, quantity, unit, price, cost, correction in found.iterator(AT_ONCE):
        yield (*facts, _money(quantity), unit, _money(price), _money(cost), currency, invoice, correction)


def _money(value: Decimal | None) -> Decimal | None:
    return None if value is None else value.quantize(DIGITS, ROUND_HALF_EVEN, WIDE)


def _containers(tenant: Tenant, _start: dt.datetime, _end: dt.datetime) -> Rows:
    fields = (
        "id", "name", "image_reference", "state", "memory_bytes", "cpu_millis", "created_at", "started_at", "finished_at",
        "removed_at",
    )  # fmt: skip
    for *facts, memory, millis, created, started, finished, removed in (
        Container.objects.of(tenant).order_by("created_at", "id").values_list(*fields).iterator(AT_ONCE)
    ):
        yield (*facts, memory, millis / 1000, created, started, finished, removed)


USAGE = Table(
    "usage",
    _("What was used, by container, meter and hour: the records that bills are made of."),
    (
        *_OF_A_RESOURCE,
        Column("meter", TEXT, ", ".join(Meter.values)),
        Column("hour", TIME, _("the hour that it lies in")),
        Column("starts_at", TIME, _("where it begins")),
        Column("ends_at", TIME, _("where it ends")),
        Column("quantity", WHOLE, _("in the meter's base unit, exact")),
        Column("amount", REAL, _("the same in the unit that pages show")),
        Column("unit", TEXT, _("of the amount")),
        Column("quality", TEXT, _("exact, integrated, estimated or missing")),
    ),
    _usage,
)
COSTS = Table(
    "costs",
    _("What it costs, by container, meter, hour and tier of the price."),
    (
        *_OF_A_RESOURCE,
        Column("meter", TEXT, ", ".join(Meter.values)),
        Column("hour", TIME, _("the hour that it lies in")),
        Column("sku", TEXT, _("the price's name")),
        Column("tier", TEXT, _("of the contract and of the list: i is included, else a number from 0")),
        Column("quantity", MONEY, _("in the price's unit")),
        Column("unit", TEXT, _("of the price")),
        Column("unit_price", MONEY, _("null for a correction")),
        Column("cost", MONEY, _("rounded to 18 digits; an invoice has them all")),
        Column("currency", TEXT, _("of the price")),
        Column("invoice", TEXT, _("null while the month is open")),
        Column("correction", YES_NO, _("of a month that was closed before")),
    ),
    _costs,
)
CONTAINERS = Table(
    "containers",
    _("The tenant's containers, also those that were removed."),
    (
        *_OF_A_RESOURCE[:3],
        Column("state", TEXT, ", ".join(Container.State.values)),
        Column("memory_bytes", WHOLE, _("its limit")),
        Column("vcpu", REAL, _("its limit")),
        Column("created_at", TIME, _("its launch")),
        Column("started_at", TIME, _("its last start")),
        Column("finished_at", TIME, _("its last end")),
        Column("removed_at", TIME, _("null while it is there")),
    ),
    _containers,
)
TABLES = (USAGE, COSTS, CONTAINERS)
