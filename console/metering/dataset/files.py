"""The tables of a tenant as Parquet files, written when they have changed.

``HOME/dataset/<tenant>/`` holds ``<table>.<month or day>.<mark>.parquet``; the mark says of which rows it is (how many records, which
rating), so a month that is over is written once.  A question gets a folder of hard links, which no later writing changes.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from django.db.models import Max, Min
from django.utils import timezone

from console.accounts.models import Tenant
from console.metering.dataset.place import folder
from console.metering.dataset.tables import AT_ONCE, CONTAINERS, COSTS, USAGE, Rows, Table, late_costs
from console.metering.models import CostDay, Period, UsageRecord
from console.metering.months import month_of
from console.metering.selectors.prices import Prices
from console.metering.spans import DAY, day_of, moment

ABANDONED_S = 600
"""A folder of links that is older belongs to a question whose process was killed."""
TRIES = 5
ALL = "all"
LATE = "-late"
"""Behind a month: the corrections that are billed in it."""
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
    wanted = {home / f"{table.name}.{name}.{mark}.parquet": (table, name) for table, name, mark in _wanted(tenant)}
    for path, (table, name) in wanted.items():
        if not path.exists():
            write(table, _rows(table, tenant, name), path)
    for old in home.glob("*.parquet"):
        if old not in wanted:
            old.unlink(missing_ok=True)
    return list(wanted)


def _wanted(tenant: Tenant) -> Iterator[tuple[Table, str, str]]:
    """Table, name of a time, and mark.  A month that runs comes by the day: of it one day's rows are others each hour, not all."""
    counts = dict(_counts(tenant))
    for name, count in counts.items():
        yield USAGE, name, str(count)  # records are only ever added
    for period in Period.objects.of(tenant).exclude(run=None).select_related("run").order_by("starts_at"):
        yield from _costs(period, counts)
    for table in (USAGE, COSTS):
        yield table, NONE, "0"
    yield CONTAINERS, ALL, str(time.time_ns())


def _counts(tenant: Tenant) -> Iterator[tuple[str, int]]:
    """How many records there are in each month and, from this one on, in each day.  Counted in an index, a time after the other: by the
    months of all windows the database would compute each.
    """
    found = UsageRecord.objects.filter(tenant=tenant)
    edges = found.aggregate(first=Min("window"), last=Max("window"))
    if edges["first"] is None:
        return
    (start, end), this = month_of(edges["first"]), month_of(timezone.now())[0]
    while start <= edges["last"]:
        by_day = start >= this
        end = start + DAY if by_day else month_of(start)[1]
        if count := found.filter(window__gte=start, window__lt=end).count():
            yield f"{start:%Y-%m-%d}" if by_day else f"{start:%Y-%m}", count
            start = end
        else:  # years may lie between, by a clock that was wrong
            following: dt.datetime = found.filter(window__gte=end).aggregate(first=Min("window"))["first"]
            start = day_of(following) if following >= this else month_of(following)[0]


def _costs(period: Period, counts: Mapping[str, int]) -> Iterator[tuple[Table, str, str]]:
    """A day's mark tells of its sums, of those before it, which say where its tiers begin, of how many records it has and of the prices."""
    month, run = f"{period.starts_at:%Y-%m}", period.run
    assert run is not None
    if period.state == Period.State.CLOSED:
        yield COSTS, month, f"{run.pk}-{period.state}"
        return
    marked = hashlib.sha256(str([book.pk for book in Prices(period.tenant_id).books()]).encode())
    sums = CostDay.objects.filter(run=run, day__gte=period.starts_at).order_by("day", "resource", "meter")
    fields = ("day", "resource", "meter", "whole", "rest", "nanos")
    for day, rows in groupby(sums.values_list(*fields).iterator(chunk_size=AT_ONCE), key=lambda row: row[0]):
        name = f"{day:%Y-%m-%d}"
        marked.update(f"{name} {counts.get(name, counts.get(month))} {[row[1:] for row in rows]}".encode())
        yield COSTS, name, marked.hexdigest()[:16]
    yield COSTS, month + LATE, f"{run.sha256[:16]}-{period.state}"


def _rows(table: Table, tenant: Tenant, name: str) -> Rows:
    if name == NONE:
        return iter(())
    if name == ALL:
        return table.rows(tenant, *month_of(timezone.now()))
    if name.endswith(LATE):
        return late_costs(tenant, *month_of(moment("from", name.removesuffix(LATE) + "-01")))
    start = moment("from", name if len(name) > len("2026-11") else f"{name}-01")
    return table.rows(tenant, start, start + DAY if len(name) > len("2026-11") else month_of(start)[1])


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
