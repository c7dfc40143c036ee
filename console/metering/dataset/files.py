"""The tables of a tenant as Parquet files, written when they have changed.

``HOME/dataset/<tenant>/`` holds ``<table>.<month>.<mark>.parquet``; the mark says of which rows it is (how many records, which
rating), so a month that is over is written once.  A question gets a folder of hard links, which no later writing changes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from django.db.models import Count
from django.db.models.functions import TruncMonth
from django.utils import timezone

from console.accounts.models import Tenant
from console.metering.dataset.place import folder
from console.metering.dataset.tables import AT_ONCE, CONTAINERS, COSTS, USAGE, Rows, Table
from console.metering.models import Period, UsageRecord
from console.metering.months import month_of

ABANDONED_S = 600
"""A folder of links that is older belongs to a question whose process was killed."""
TRIES = 5
ALL = "all"
NONE = "none"
"""A file without rows: a table has its columns also before there is anything in it."""


@contextlib.contextmanager
def linked(tenant: Tenant) -> Iterator[str]:
    """The name of a folder with the tables as they are now; gone at the end.  Raises OSError.

    Whoever writes them anew meanwhile takes away what is older, so it is looked for more than once.
    """
    home = folder(tenant.id)
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    _sweep(home)
    name = f"q-{secrets.token_hex(12)}"
    (home / name).mkdir(mode=0o755)
    try:
        for left in reversed(range(TRIES)):
            try:
                _link(refresh(tenant), home / name)
                break
            except FileNotFoundError:
                if not left:
                    raise
        yield name
    finally:
        shutil.rmtree(home / name, ignore_errors=True)


def _link(found: Iterable[Path], into: Path) -> None:
    """Instead of what a try before linked."""
    for file in into.iterdir():
        file.unlink()
    for file in found:
        os.link(file, into / file.name)


def refresh(tenant: Tenant) -> list[Path]:
    """Writes what has changed, takes away what is old; returns the files that are the data set now."""
    home = folder(tenant.id)
    wanted = {home / f"{table.name}.{month}.{mark}.parquet": (table, month) for table, month, mark in _wanted(tenant)}
    for path, (table, month) in wanted.items():
        if not path.exists():
            write(table, _rows(table, tenant, month), path)
    for old in home.glob("*.parquet"):
        if old not in wanted:
            old.unlink(missing_ok=True)
    return list(wanted)


def _wanted(tenant: Tenant) -> Iterator[tuple[Table, str, str]]:
    months = UsageRecord.objects.filter(tenant=tenant).annotate(month=TruncMonth("window")).values_list("month")
    for month, count in months.annotate(Count("pk")).order_by("month"):
        yield USAGE, f"{month:%Y-%m}", str(count)  # records are only ever added
    for period in Period.objects.of(tenant).exclude(run=None).order_by("starts_at"):
        yield COSTS, f"{period.starts_at:%Y-%m}", f"{period.run_id}-{period.state}"
    for table in (USAGE, COSTS):
        yield table, NONE, "0"
    yield CONTAINERS, ALL, str(time.time_ns())


def _rows(table: Table, tenant: Tenant, month: str) -> Rows:
    if month == NONE:
        return iter(())
    start, end = month_of(timezone.now() if month == ALL else dt.datetime.fromisoformat(f"{month}-01T00:00:00+00:00"))
    return table.rows(tenant, start, end)


def write(table: Table, rows: Rows, path: Path) -> None:
    """A batch in memory at a time; there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    schema = table.schema
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while batch := list(islice(rows, AT_ONCE)):
                columns = zip(*batch, strict=True)
                arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sweep(home: Path) -> None:
    for left in home.glob("q-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
