"""Usage by the hour as Parquet: the columns of ``usage``, decimals as decimals, times as UTC timestamps, a batch in memory at a time."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from console.accounts.models import Tenant
from console.metering.exports.usage import COLUMNS, DECIMALS, rows

AT_ONCE = 5000
TIMES = ("period_start", "period_end")
BYTES = tuple(name for name in COLUMNS if name.endswith("_bytes"))
DECIMAL = pa.decimal128(38, 9)
"""``usage.SCALE`` has nine digits."""


def _type(name: str) -> pa.DataType:
    if name in DECIMALS:
        return DECIMAL
    if name in TIMES:
        return pa.timestamp("us", tz="UTC")
    return pa.int64() if name in BYTES else pa.string()


SCHEMA = pa.schema([(name, _type(name)) for name in COLUMNS])


def write(tenant: Tenant, start: dt.datetime, end: dt.datetime, path: Path) -> None:
    found = rows(tenant, start, end, by="hour")
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        while batch := list(islice(found, AT_ONCE)):
            arrays = [pa.array([_value(name, row[name]) for row in batch], _type(name)) for name in COLUMNS]
            writer.write_batch(pa.record_batch(arrays, schema=SCHEMA))


def _value(name: str, value: str | int | None) -> str | int | Decimal | dt.datetime | None:
    if not isinstance(value, str):
        return value
    if name in DECIMALS:
        return Decimal(value)
    return dt.datetime.fromisoformat(value) if name in TIMES else value
