"""The FOCUS schema metadata and the price list that go beside the data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

from console.metering.evidence import book_name, instant
from console.metering.exports.focus import METERS, NUMBERS, Version, columns, number
from console.metering.exports.focus_invoice import COLUMNS, VERSION, Dataset
from console.metering.models import Period
from console.metering.rating import INCLUDED
from console.metering.selectors.prices import Prices
from console.metering.units import total

TIMES = frozenset(
    {"BillingPeriodCreated", "BillingPeriodEnd", "BillingPeriodLastUpdated", "BillingPeriodStart", "ChargePeriodEnd",
     "ChargePeriodStart", "InvoiceDetailCreated", "InvoiceDetailLastUpdated", "InvoiceIssueDate", "PaymentDueDate"}
)  # fmt: skip
OBJECTS = frozenset({"InvoiceDetailGrain", "SkuPriceDetails", "Tags"})
DECIMALS = NUMBERS | {"x_ListCost", "x_ListUnitPrice", "x_PricingQuantity", "x_UnitPrice"}
PRICE_COLUMNS = (
    "PriceBook", "ValidFrom", "SkuId", "SkuPriceId", "SkuMeter", "PricingUnit", "From", "UnitPrice", "BillingCurrency",
)  # fmt: skip


def metadata(version: Version) -> str:
    """Of CostAndUsage and of each of its columns: type, and for decimals how many digits they may have."""
    return _metadata(version, "CostAndUsage", f"slipway-focus-{version}-1", columns(version))


def invoice_metadata(dataset: Dataset) -> str:
    """Likewise of a data set about invoices."""
    return _metadata(VERSION, dataset, f"slipway-focus-{VERSION}-{dataset}-1", COLUMNS[dataset])


def _metadata(version: str, dataset: str, schema: str, names: Sequence[str]) -> str:
    """Versions from 1.3 on want the data set named (the specification's ``metadata/dataset_instance``)."""
    instance = {"DatasetInstanceId": f"slipway-{dataset}", "DatasetInstanceName": dataset, "FocusDatasetId": dataset}
    found = {
        "FocusVersion": version,
        "DataGenerator": "Slipway",
        "SchemaId": schema,
        **({} if version == "1.2" else {"DatasetInstance": [instance]}),
        "ColumnDefinition": [_column(name) for name in names],
    }
    return json.dumps(found, indent=1) + "\n"


def _column(name: str) -> dict[str, str | int]:
    if name in DECIMALS:
        return {"ColumnName": name, "DataType": "DECIMAL", "NumericPrecision": 76, "NumberScale": 42}
    if name in TIMES:
        return {"ColumnName": name, "DataType": "DATETIME"}
    if name in OBJECTS:
        return {"ColumnName": name, "DataType": "JSON", "StringEncoding": "UTF-8"}
    return {"ColumnName": name, "DataType": "STRING", "StringEncoding": "UTF-8"}


def price_list(period: Period) -> Iterator[str]:
    """CSV: each price that began to hold before the period's end, by book, SKU and tier.  ``From`` counts included units too."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(PRICE_COLUMNS)
    for book in Prices(period.tenant_id).books():
        if book.valid_from >= period.ends_at:
            continue
        for price in book.prices.order_by("sku"):
            steps = [(INCLUDED, Decimal(0), Decimal(0))] if price.included else []
            steps += [
                (str(tier), total(price.included, Decimal(start)), Decimal(each))
                for tier, (start, each) in enumerate(price.tiers)
            ]
            for tier, start, each in steps:
                writer.writerow(
                    [book_name(book), instant(book.valid_from), price.sku, f"{price.sku}-{tier}", METERS[price.meter],
                     price.unit, number(start), number(each), book.currency]
                )  # fmt: skip
    yield buffer.getvalue()
