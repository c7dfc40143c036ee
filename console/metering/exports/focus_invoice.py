"""A period's invoice as FOCUS rows: the data sets BillingPeriod and InvoiceDetail, which the specification has since version 1.4.

They stand beside the CostAndUsage of versions 1.2 and 1.3, whose rows they join by InvoiceIssuerName and BillingPeriodStart, or
InvoiceId.  Source: the specification's ``datasets/billing_period`` and ``datasets/invoice_detail``.  Left out are the columns that it
asks for only where an issuer bills in one currency and is paid in another, or takes purchase order numbers.

How they are to be read (the specification wants this said): an InvoiceDetail row is a row of the invoice: what was bought at one price,
a correction by the month that it corrects, a credit, or the rounding.  Rows that cost 0 are among them.  Their BilledCost sums to the
payable amount and, exactly, to that of CostAndUsage.  An open period has no invoice and so no row.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal

from console.metering.exports.focus import METERS, PROVIDER, SERVICES, Row, csv_table, moment
from console.metering.models import Invoice, Period, RatedLine, RatingRun
from console.metering.months import month_of
from console.metering.units import total

Dataset = Literal["BillingPeriod", "InvoiceDetail"]
VERSION = "1.4"
BILLING_PERIOD = (
    "BillingPeriodCreated", "BillingPeriodEnd", "BillingPeriodLastUpdated", "BillingPeriodStart", "BillingPeriodStatus",
    "InvoiceIssuerName",
)  # fmt: skip
INVOICE_DETAIL = (
    "BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "InvoiceDetailCreated", "InvoiceDetailDescription", "InvoiceDetailGrain", "InvoiceDetailId", "InvoiceDetailLastUpdated",
    "InvoiceId", "InvoiceIssueDate", "InvoiceIssueStatus", "InvoiceIssuerName", "PaymentDueDate", "PaymentTerms",
    "ReferenceInvoiceId",
)  # fmt: skip
OURS = ("x_ListCost", "x_ListUnitPrice", "x_PricingQuantity", "x_PricingUnit", "x_UnitPrice")
"""Of the invoice's rows, what the specification has no column for."""
COLUMNS: Mapping[Dataset, tuple[str, ...]] = {
    "BillingPeriod": BILLING_PERIOD,
    "InvoiceDetail": (*INVOICE_DETAIL, *OURS),
}
NO_TERMS = "Not specified"
"""The specification allows no null here; our invoices set no terms."""


def csv_chunks(period: Period, dataset: Dataset) -> Iterator[str]:
    """As ``focus.csv_chunks``."""
    found = {"BillingPeriod": billing_period, "InvoiceDetail": invoice_detail}[dataset]
    yield from csv_table(COLUMNS[dataset], found(period))


def billing_period(period: Period) -> Iterator[Row]:
    """One row; a period that is just being closed is still Open."""
    created = period.created_at or period.starts_at
    closed = period.state == Period.State.CLOSED
    yield {
        "BillingPeriodCreated": moment(created),
        "BillingPeriodLastUpdated": moment(max(created, period.closed_at) if closed and period.closed_at else created),
        "BillingPeriodStart": moment(period.starts_at),
        "BillingPeriodEnd": moment(period.ends_at),
        "BillingPeriodStatus": "Closed" if closed else "Open",
        "InvoiceIssuerName": PROVIDER,
    }


def invoice_detail(period: Period) -> Iterator[Row]:
    """Usage first, then corrections, credits and the rounding; numbered in that order."""
    invoice = Invoice.objects.filter(period=period).first()
    if invoice is None:
        return
    common = _common(invoice, period)
    for number, row in enumerate(_rows(invoice, period), 1):
        yield common | {"InvoiceDetailId": f"{invoice.number}-{number:04d}"} | row


def _common(invoice: Invoice, period: Period) -> Row:
    issued = moment(invoice.issued_at)
    empty: Row = dict.fromkeys(COLUMNS["InvoiceDetail"])
    return empty | {
        "BillingAccountId": invoice.tenant_id,
        "BillingCurrency": invoice.currency,
        "BillingPeriodStart": moment(period.starts_at),
        "BillingPeriodEnd": moment(period.ends_at),
        "InvoiceDetailCreated": issued,
        "InvoiceDetailLastUpdated": issued,
        "InvoiceId": invoice.number,
        "InvoiceIssueDate": issued,
        "InvoiceIssueStatus": "Issued",
        "InvoiceIssuerName": PROVIDER,
        "PaymentTerms": NO_TERMS,
        "ReferenceInvoiceId": invoice.number,
    }


def _rows(invoice: Invoice, period: Period) -> Iterator[Row]:
    run = RatingRun.objects.get(current_of=period)
    for row in run.summary:
        if not row["correction"]:
            yield _usage(row)
    yield from _corrections(period)
    for credit in period.credits.order_by("pk"):
        yield _other("Credit", credit.amount.copy_negate(), credit.reason, {"x_CreditKey": credit.key})
    if invoice.adjustment:
        told = "Rounding of the invoice to the currency's smallest unit"
        yield _other("Adjustment", invoice.adjustment, told, {"x_Adjustment": "Rounding"})


def _usage(row: Mapping[str, Any]) -> Row:
    prices = [row["unit_price"] or None, row["list_unit_price"] or None]
    grain = {
        **_sku(row["meter"], row["sku"]),
        "SkuPriceId": f"{row['sku']}-{row['tier'].rpartition('/')[2]}",
        "x_ListUnitPrice": prices[1],
        "x_PricingUnit": row["unit"],
        "x_Tier": row["tier"],
        "x_UnitPrice": prices[0],
    }
    unit_price, list_price = (None if price is None else Decimal(price) for price in prices)
    return {
        "BilledCost": Decimal(row["cost"]),
        "ChargeCategory": "Usage",
        "InvoiceDetailDescription": f"{METERS[row['meter']]}: {row['sku']}",
        "InvoiceDetailGrain": _json(grain),
        "x_ListCost": Decimal(row["list_cost"]),
        "x_ListUnitPrice": list_price,
        "x_PricingQuantity": Decimal(row["quantity"]),
        "x_PricingUnit": row["unit"],
        "x_UnitPrice": unit_price,
    }


def _corrections(period: Period) -> Iterator[Row]:
    """By the month that is corrected, so that each names the one invoice that it changes, or this one where that month had none."""
    lines = RatedLine.objects.filter(run__current_of=period, correction=True).order_by("number")
    sums: dict[tuple[dt.datetime, str, str, str], tuple[Decimal, Decimal, Decimal]] = {}
    for line in lines.iterator(chunk_size=2000):
        key = (month_of(line.window)[0], line.sku, line.meter, line.unit)
        quantity, listed, cost = sums.get(key, (Decimal(0),) * 3)
        sums[key] = total(quantity, line.pricing_quantity), total(listed, line.list_cost), total(cost, line.cost)
    earlier = Invoice.objects.filter(tenant=period.tenant_id, period__starts_at__lt=period.starts_at)
    numbers = dict(earlier.values_list("period__starts_at", "number"))
    for (month, sku, meter, unit), (quantity, listed, cost) in sorted(sums.items()):
        yield {
            "BilledCost": cost,
            "ChargeCategory": "Usage",
            "InvoiceDetailDescription": f"Correction of {month:%Y-%m}: {METERS[meter]}: {sku}",
            "InvoiceDetailGrain": _json(
                {**_sku(meter, sku), "x_CorrectedPeriodStart": moment(month), "x_PricingUnit": unit}
            ),
            **({"ReferenceInvoiceId": numbers[month]} if month in numbers else {}),
            "x_ListCost": listed,
            "x_PricingQuantity": quantity,
            "x_PricingUnit": unit,
        }


def _sku(meter: str, sku: str) -> dict[str, str]:
    return {"ServiceName": SERVICES[meter][1], "SkuId": sku, "SkuMeter": METERS[meter]}


def _other(category: str, amount: Decimal, description: str, grain: Mapping[str, str]) -> Row:
    return {
        "BilledCost": amount,
        "ChargeCategory": category,
        "InvoiceDetailDescription": description,
        "InvoiceDetailGrain": _json(grain),
        "x_ListCost": amount,
    }


def _json(found: Mapping[str, str | None]) -> str:
    return json.dumps({name: value for name, value in found.items() if value is not None}, sort_keys=True)
