"""A strict reading of our FOCUS files: what the official validator passes over is checked here, row by row, in constant memory."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal

from console.metering.currencies import DIGITS
from console.metering.exports.focus import NUMBERS, SERVICES, Version, columns
from console.metering.units import EXACT, product

Cells = Mapping[str, str]
NOT_NULL = (
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingAccountId", "BillingAccountName", "BillingCurrency",
    "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeDescription",
    "InvoiceIssuerName", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "SubAccountId", "Tags",
)  # fmt: skip
OF_USAGE = (
    "PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit", "PricingCategory", "ResourceId", "ResourceName",
    "ResourceType", "RegionId", "SkuId", "SkuMeter", "x_Quality",
)  # fmt: skip
OF_PRICED_USAGE = ("ListUnitPrice", "ContractedUnitPrice", "SkuPriceId", "SkuPriceDetails", "x_PriceBook")
ALLOWED = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"", "Standard", "Dynamic", "Committed", "Other"},
    "CommitmentDiscountStatus": {""},
}
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UNIT = re.compile(r"(GB|GiB|MB|MiB|(Core|GiB|MiB|Port)-Seconds)")


def faults(lines: Iterable[str], version: Version) -> Iterator[str]:
    """``row 7: BilledCost …`` for each thing that is wrong; none for a good file."""
    reader = csv.DictReader(lines, strict=True)
    if tuple(reader.fieldnames or ()) != columns(version):
        yield f"columns: they are not those of FOCUS {version}, in order, and ours after them"
        return
    names: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(reader, 2):
        if None in row or None in row.values():
            yield f"row {number}: it has more or fewer cells than there are columns"
            continue
        for rule in RULES:
            for fault in rule(row):
                yield f"row {number}: {fault}"
        service = names.setdefault(row["ServiceName"], (row["ServiceCategory"], row["ServiceSubcategory"]))
        if service != (row["ServiceCategory"], row["ServiceSubcategory"]):
            yield f"row {number}: ServiceName {row['ServiceName']} is of two categories"


def _present(row: Cells) -> Iterator[str]:
    wanted = [*NOT_NULL]
    if row["ChargeCategory"] == "Usage":
        wanted += OF_USAGE if row["ChargeClass"] else (*OF_USAGE, *OF_PRICED_USAGE)
    for name in wanted:
        if not row[name]:
            yield f"{name} is null"
    for name, value in row.items():
        if value != value.strip() or value.lower() in {"null", "none", "nan"}:
            yield f"{name} is {value!r}, which is no value and not null either"


def _allowed(row: Cells) -> Iterator[str]:
    for name, values in ALLOWED.items():
        if row[name] not in values:
            yield f"{name} is {row[name]!r}"
    if row["BillingCurrency"] not in DIGITS:
        yield f"BillingCurrency {row['BillingCurrency']!r} is none of ISO 4217"
    for name in ("PricingUnit", "ConsumedUnit"):
        if row[name] and not UNIT.fullmatch(row[name]):
            yield f"{name} is {row[name]!r}"
    if (row["ServiceCategory"], row["ServiceName"], row["ServiceSubcategory"]) not in set(SERVICES.values()):
        yield f"ServiceName {row['ServiceName']!r} is none of ours"


def _numbers(row: Cells) -> Iterator[str]:
    for name in NUMBERS:
        if row[name] and not NUMBER.fullmatch(row[name]):
            yield f"{name} is {row[name]!r}, which is no decimal with a point"


def _times(row: Cells) -> Iterator[str]:
    found = {}
    for name in ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"):
        try:
            found[name] = dt.datetime.fromisoformat(row[name])
        except ValueError:
            yield f"{name} is {row[name]!r}, which is no time"
            return
        if not MOMENT.fullmatch(row[name]):
            yield f"{name} is {row[name]!r}, not YYYY-MM-DDTHH:MM:SSZ"
            return
    if found["ChargePeriodEnd"] <= found["ChargePeriodStart"]:
        yield "ChargePeriodEnd is not after ChargePeriodStart"
    if found["BillingPeriodEnd"] <= found["BillingPeriodStart"]:
        yield "BillingPeriodEnd is not after BillingPeriodStart"
    late = found["ChargePeriodStart"] < found["BillingPeriodStart"]
    if late != bool(row["ChargeClass"]) or found["ChargePeriodEnd"] > found["BillingPeriodEnd"]:
        yield "a charge outside of its billing period is a Correction, and no other is"


def _products(row: Cells) -> Iterator[str]:
    if row["ChargeClass"]:
        return
    for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
        if not row[price] or not NUMBER.fullmatch(row[cost]) or not NUMBER.fullmatch(row["PricingQuantity"]):
            continue
        if EXACT.subtract(product(Decimal(row[price]), Decimal(row["PricingQuantity"])), Decimal(row[cost])):
            yield f"{price} x PricingQuantity is not {cost}"


def _objects(row: Cells) -> Iterator[str]:
    for name in ("Tags", "SkuPriceDetails"):
        if not row[name]:
            continue
        try:
            found = json.loads(row[name])
        except ValueError:
            found = None
        if not isinstance(found, dict) or any(isinstance(value, dict | list) for value in found.values()):
            yield f"{name} is no flat JSON object"


def _together(row: Cells) -> Iterator[str]:
    for quantity, unit in (("PricingQuantity", "PricingUnit"), ("ConsumedQuantity", "ConsumedUnit")):
        if bool(row[quantity]) != bool(row[unit]):
            yield f"{quantity} and {unit} are null together or not at all"
    if row["ChargeCategory"] == "Credit" and not row["BilledCost"].startswith("-"):
        yield "a Credit's BilledCost is not negative"
    for cost in ("EffectiveCost", "ContractedCost"):
        if row[cost] != row["BilledCost"]:
            yield f"{cost} is not BilledCost, and we have neither commitments nor fees paid ahead"


RULES: tuple[Callable[[Cells], Iterator[str]], ...] = (
    _present, _allowed, _numbers, _times, _products, _objects, _together,
)  # fmt: skip
