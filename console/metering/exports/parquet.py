"""FOCUS rows as Parquet: decimals as decimals with all their digits, times as UTC timestamps, a batch in memory at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from console.metering.exports.focus import NUMBERS, Row, Version, columns, rows
from console.metering.models import Period

AT_ONCE = 5000
QUANTITIES = frozenset({"PricingQuantity", "ConsumedQuantity"})
QUANTITY = pa.decimal256(76, 30)
"""A GiB is 2 to the 30th bytes: 30 digits hold each part of it, and of every other unit.  DuckDB and others read this, and the next, as a
floating-point number; the CSV has the digits too."""
MONEY = pa.decimal256(76, 42)
"""A quantity times a price of 12 digits."""
TIMES = frozenset({"BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"})


def schema(version: Version) -> pa.Schema:
    return pa.schema([(name, _type(name)) for name in columns(version)], metadata={"focus_version": version})


def write(period: Period, version: Version, path: Path, day: dt.datetime | None = None) -> int:
    """Returns how many rows.  The same rows make the same bytes."""
    form, found, count = schema(version), rows(period, day), 0
    with pq.ParquetWriter(path, form, compression="zstd") as writer:
        for batch in _batches(found):
            arrays = [pa.array([_value(name, row[name]) for row in batch], _type(name)) for name in form.names]
            writer.write_batch(pa.record_batch(arrays, schema=form))
            count += len(batch)
    return count


def _batches(found: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(found, AT_ONCE)):
        yield batch


def _type(name: str) -> pa.DataType:
    if name in QUANTITIES:
        return QUANTITY
    if name in NUMBERS:
        return MONEY
    return pa.timestamp("us", tz="UTC") if name in TIMES else pa.string()


def _value(name: str, value: str | Decimal | None) -> str | Decimal | dt.datetime | None:
    return dt.datetime.fromisoformat(value) if name in TIMES and isinstance(value, str) else value
