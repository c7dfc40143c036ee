"""Invoices and open months as people read them: in a list, and one with all that is on it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db.models import Min, QuerySet

from console.accounts.models import Tenant
from console.core.errors import Missing
from console.metering.currencies import rounded
from console.metering.models import CostMonth, Credit, Invoice, Period, RatedLine, UsageRecord
from console.metering.units import difference, in_units, total

NANO = 10**9
CONTAINERS = 50


@dataclass(frozen=True, slots=True)
class Statement:
    """A month of a tenant, invoiced or not."""

    period: Period
    invoice: Invoice | None
    currency: str
    charges: Decimal
    credits: Decimal
    adjustment: Decimal
    payable: Decimal
    """Of an open month: what it would be now, not rounded."""

    @property
    def due(self) -> Decimal:
        """What one owes the other, never below zero; an invoice's has all the digits of its currency."""
        amount = abs(self.payable)
        return rounded(amount, self.currency) if self.invoice and self.currency else amount

    @property
    def month(self) -> str:
        return f"{self.period.starts_at:%Y-%m}"

    @property
    def rated_at(self) -> dt.datetime | None:
        return None if self.period.run is None else self.period.run.created_at


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """What was bought at one price."""

    sku: str
    meter: str
    unit: str
    tier: str
    """Of the contract or the list: ``i`` for included, else the tier's number from 0; empty for a correction."""
    correction: bool
    quantity: Decimal
    unit_price: Decimal | None
    """None for a correction, which may be of several tiers."""
    list_unit_price: Decimal | None
    cost: Decimal
    lines: int


@dataclass(frozen=True, slots=True)
class ContainerRow:
    identity: str
    name: str
    cost: Decimal
    """Rounded to a billionth."""


def statements(tenant: Tenant) -> list[Statement]:
    """The newest first."""
    return _statements(Period.objects.of(tenant).order_by("-starts_at"))


def of_month(month: dt.datetime) -> list[Statement]:
    """Everybody's, by tenant; for admins."""
    return _statements(Period.objects.filter(starts_at=month).order_by("tenant__name"))


def statement(tenant: Tenant, month: dt.datetime) -> Statement:
    """Raises Missing where nothing was metered in that month."""
    found = _statements(Period.objects.of(tenant).filter(starts_at=month))
    if not found:
        raise Missing
    return found[0]


def _statements(periods: QuerySet[Period]) -> list[Statement]:
    found = periods.select_related("run", "tenant", "invoice").prefetch_related("credits")
    return [_statement(period) for period in found]


def _statement(period: Period) -> Statement:
    invoice: Invoice | None = getattr(period, "invoice", None)
    if invoice is not None:
        return Statement(
            period, invoice, invoice.currency, invoice.charges, invoice.credits, invoice.adjustment, invoice.payable
        )
    charges = Decimal(0) if period.run is None else period.run.total
    given = total(*(credit.amount for credit in period.credits.all()))
    currency = "" if period.run is None else period.run.currency
    return Statement(period, None, currency, charges, given, Decimal(0), difference(charges, given))


def billed_name(found: Statement) -> str:
    """As the tenant was called when it was invoiced, or is now."""
    return json.loads(found.invoice.manifest)["tenant"]["name"] if found.invoice else found.period.tenant.name


def summary(found: Statement) -> list[SummaryRow]:
    run = found.period.run
    return [] if run is None else [_summary_row(row) for row in run.summary]


def _summary_row(row: dict[str, Any]) -> SummaryRow:
    prices = [Decimal(row[name]) if row[name] else None for name in ("unit_price", "list_unit_price")]
    return SummaryRow(
        row["sku"], row["meter"], row["unit"], row["tier"].partition("/")[0], row["correction"], Decimal(row["quantity"]),
        prices[0], prices[1], Decimal(row["cost"]), row["lines"],
    )  # fmt: skip


def corrected_from(found: Statement) -> dt.datetime | None:
    """The first moment of the first month that it corrects; None where it corrects none."""
    earlier = CostMonth.objects.filter(run=found.period.run_id, month__lt=found.period.starts_at)
    first: dt.datetime | None = earlier.aggregate(first=Min("month"))["first"]
    return first


def came_late(found: Statement) -> bool:
    """Whether some of its month's records are on a later invoice."""
    period = found.period
    later = list(
        Period.objects.filter(tenant=period.tenant_id, starts_at__gt=period.starts_at).values_list("pk", flat=True)
    )
    late = UsageRecord.objects.filter(billed_in__in=later, window__gte=period.starts_at, window__lt=period.ends_at)
    return late.exists()


def by_container(found: Statement) -> list[ContainerRow]:
    """The most expensive first, under one of the names that they had."""
    months = CostMonth.objects.filter(run=found.period.run_id)
    sums: dict[str, int] = {}
    for identity, nanos in months.values_list("resource__identity", "nanos"):
        sums[identity] = sums.get(identity, 0) + nanos
    rows = sorted(sums.items(), key=lambda row: (-row[1], row[0]))[:CONTAINERS]
    named = months.filter(resource__identity__in=[identity for identity, _ in rows]).order_by("month", "pk")
    names = dict(named.values_list("resource__identity", "resource__name"))
    return [ContainerRow(identity, names[identity], in_units(nanos, NANO)) for identity, nanos in rows]


def given_credits(found: Statement) -> Iterable[Credit]:
    return found.period.credits.order_by("pk").select_related("actor")


def lines(found: Statement, *, after: int = 0) -> QuerySet[RatedLine]:
    """Behind the number ``after``, in order."""
    wanted = RatedLine.objects.filter(run=found.period.run_id, number__gt=after)
    return wanted.select_related("resource", "book").order_by("number")
