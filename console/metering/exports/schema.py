"""The FOCUS schema metadata and the price list that go beside the data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal

from console.metering.evidence import book_name, instant
from console.metering.exports.focus import METERS, NUMBERS, Version, columns, number
from console.metering.models import Period
from console.metering.rating import INCLUDED
from console.metering.selectors.prices import Prices
from console.metering.units import total

TIMES = ("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd")
OBJECTS = ("Tags", "SkuPriceDetails")
PRICE_COLUMNS = (
    "PriceBook", "ValidFrom", "SkuId", "SkuPriceId", "SkuMeter", "PricingUnit", "From", "UnitPrice", "BillingCurrency",
)  # fmt: skip


def metadata(version: Version) -> str:
    """Of the data set and of each column: type, and for decimals how many digits they may have."""
    found = {
        "FocusVersion": version,
        "DataGenerator": "Slipway",
        "SchemaId": f"slipway-focus-{version}-1",
        "ColumnDefinition": [_column(name) for name in columns(version)],
    }
    return json.dumps(found, indent=1) + "\n"


def _column(name: str) -> dict[str, str | int]:
    if name in NUMBERS:
        return {"ColumnName": name, "DataType": "DECIMAL", "NumericPrecision": 76, "NumberScale": 38}
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
