"""What a period costs: so far where it is open, on its invoice where it is closed."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from decimal import Decimal

from console.accounts.models import Tenant
from console.metering.models import Invoice, Period
from console.metering.selectors.prices import Prices
from console.metering.units import difference, total


@dataclass(frozen=True, slots=True)
class Bill:
    tenant_id: str
    tenant_name: str
    """As the tenant was called when the period was closed, or is now."""
    starts_at: dt.datetime
    ends_at: dt.datetime
    state: str
    number: str
    """Empty until it is invoiced."""
    currency: str
    charges: Decimal
    credits: Decimal
    adjustment: Decimal
    """0 until it is invoiced: nothing is rounded before."""
    payable: Decimal
    rated_at: dt.datetime | None
    """When an open period was last rated: it costs so much up to about then."""


def periods(tenant: Tenant) -> list[Period]:
    """The newest first."""
    return list(Period.objects.of(tenant).select_related("run").order_by("-starts_at"))


def invoices(tenant: Tenant) -> list[Invoice]:
    """The newest first."""
    return list(Invoice.objects.of(tenant).select_related("period").order_by("-period__starts_at"))


def bill(period: Period) -> Bill:
    invoice = Invoice.objects.filter(period=period).first()
    if invoice is not None:
        return Bill(
            period.tenant_id, json.loads(invoice.manifest)["tenant"]["name"], period.starts_at, period.ends_at, period.state,
            invoice.number, invoice.currency, invoice.charges, invoice.credits, invoice.adjustment, invoice.payable, None,
        )  # fmt: skip
    run = period.run
    charges = Decimal(0) if run is None else run.total
    given = total(*(credit.amount for credit in period.credits.all()))
    currency = Prices(period.tenant_id).currency if run is None else run.currency
    return Bill(
        period.tenant_id, period.tenant.name, period.starts_at, period.ends_at, period.state, "", currency, charges, given,
        Decimal(0), difference(charges, given), None if run is None else run.created_at,
    )  # fmt: skip
