"""A strict reading of our BillingPeriod and InvoiceDetail files, as ``focus_check`` reads CostAndUsage."""

from __future__ import annotations

import csv
import datetime as dt
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal

from console.metering.currencies import DIGITS
from console.metering.exports.focus_check import MOMENT, NUMBER, Cells
from console.metering.exports.focus_invoice import COLUMNS, VERSION, Dataset
from console.metering.exports.schema import DECIMALS, TIMES
from console.metering.units import total

MAY_BE_NULL = {"InvoiceDetailDescription", "InvoiceDetailGrain", "InvoiceIssueDate", "PaymentDueDate"}
ALLOWED = {
    "BillingPeriodStatus": {"Open", "Closed"},
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "InvoiceIssueStatus": {"Open", "Issued", "Voided"},
}
GRAIN = {
    "ContractId", "RegionId", "ResourceId", "ResourceType", "ServiceName", "SkuId", "SkuMeter", "SkuPriceId", "SubAccountId",
}  # fmt: skip
"""The keys that the specification defines; ours begin with ``x_``."""


def faults(lines: Iterable[str], dataset: Dataset) -> Iterator[str]:
    """``row 2: BilledCost …`` for each thing that is wrong; none for a good file."""
    reader = csv.DictReader(lines, strict=True)
    if tuple(reader.fieldnames or ()) != COLUMNS[dataset]:
        yield f"columns: they are not those of {dataset} in FOCUS {VERSION}, in order, and ours after them"
        return
    seen: set[tuple[str, str]] = set()
    grains: set[tuple[str, str]] = set()
    for number, row in enumerate(reader, 2):
        if None in row or None in row.values():
            yield f"row {number}: it has more or fewer cells than there are columns"
            continue
        found = [*_cells(row), *_order(row)]
        if dataset == "InvoiceDetail":
            found += [*_grain(row), *_once(row, "InvoiceDetailId", seen), *_once(row, "InvoiceDetailGrain", grains)]
        for fault in found:
            yield f"row {number}: {fault}"


def unreconciled(detail: Iterable[str], cost_and_usage: Iterable[str], billing_period: Iterable[str]) -> Iterator[str]:
    """What does not fit between the three files of one closed period: exactly, for we round once and in a row of its own."""
    rows = list(csv.DictReader(detail))
    (period,) = csv.DictReader(billing_period)
    for name in ("BillingPeriodStart", "BillingPeriodEnd", "InvoiceIssuerName"):
        if any(row[name] != period[name] for row in rows):
            yield f"{name} of an InvoiceDetail row is not the billing period's"
    created = max((row["InvoiceDetailCreated"] for row in rows), default="")
    if period["BillingPeriodStatus"] == "Closed" and created > period["BillingPeriodLastUpdated"]:
        yield "InvoiceDetailCreated is after BillingPeriodLastUpdated of a closed period"
    billed: dict[str, Decimal] = {}
    for row in csv.DictReader(cost_and_usage):
        billed[row["InvoiceId"]] = total(billed.get(row["InvoiceId"], Decimal(0)), Decimal(row["BilledCost"]))
    for invoice in {row["InvoiceId"] for row in rows} | billed.keys():
        sums = total(*(Decimal(row["BilledCost"]) for row in rows if row["InvoiceId"] == invoice))
        if sums != billed.get(invoice):
            yield f"BilledCost of invoice {invoice} sums to {sums}, and to {billed.get(invoice)} in CostAndUsage"


def _cells(row: Cells) -> Iterator[str]:
    for name, value in row.items():
        if not value and name not in MAY_BE_NULL and not name.startswith("x_"):
            yield f"{name} is null"
        elif value != value.strip() or value.lower() in {"null", "none", "nan"}:
            yield f"{name} is {value!r}, which is no value and not null either"
        elif value and name in DECIMALS and not NUMBER.fullmatch(value):
            yield f"{name} is {value!r}, which is no decimal with a point"
        elif value and name in TIMES and not _is_moment(value):
            yield f"{name} is {value!r}, not YYYY-MM-DDTHH:MM:SSZ"
        elif name in ALLOWED and value not in ALLOWED[name]:
            yield f"{name} is {value!r}"
        elif name == "BillingCurrency" and value not in DIGITS:
            yield f"{name} {value!r} is none of ISO 4217"


def _is_moment(value: str) -> bool:
    try:
        dt.datetime.fromisoformat(value)
    except ValueError:
        return False
    return MOMENT.fullmatch(value) is not None


def _order(row: Cells) -> Iterator[str]:
    """Moments of one form are in order as their texts are."""
    if row["BillingPeriodEnd"] <= row["BillingPeriodStart"]:
        yield "BillingPeriodEnd is not after BillingPeriodStart"
    for name in ("BillingPeriod", "InvoiceDetail"):
        if row.get(f"{name}LastUpdated", "") < row.get(f"{name}Created", ""):
            yield f"{name}LastUpdated is before {name}Created"
    if row.get("InvoiceIssueStatus") == "Issued" and not row["InvoiceIssueDate"]:
        yield "InvoiceIssueDate of an issued invoice is null"
    if row.get("ChargeCategory") == "Credit" and not row["BilledCost"].startswith("-"):
        yield "a Credit's BilledCost is not negative"


def _grain(row: Cells) -> Iterator[str]:
    try:
        found = json.loads(row["InvoiceDetailGrain"] or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or any(isinstance(value, dict | list) for value in found.values()):
        yield "InvoiceDetailGrain is no flat JSON object"
        return
    for key in found:
        if key not in GRAIN and not key.startswith("x_"):
            yield f"InvoiceDetailGrain has the key {key}, which is not the specification's and does not begin with x_"


def _once(row: Cells, name: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    key = (row["InvoiceId"], row[name])
    if key in seen:
        yield f"{name} is there twice on one invoice"
    seen.add(key)
