"""Billing exports: a period's usage of each container, as CSV or JSON, in a stream and in the same order each time.

Times are UTC; the start is included and the end is not.  Decimals have a point and as many digits as they need, at most nine
after it.  What the kernel did not say is an empty cell in CSV and null in JSON; ``quality`` is then ``incomplete``.
``memory_used_gib_seconds`` is an integral of samples; every other figure is a difference of kernel counters, or a limit times
the time that it held.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal

from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.metering.selectors.usage import By, UsageRow, usage
from console.metering.spans import moment
from console.metering.splitting import HOUR

COLUMNS = (
    "tenant", "container_id", "container_name", "image", "period_start", "period_end", "vcpu_seconds", "vcpu_limit_seconds",
    "memory_limit_gib_seconds", "memory_used_gib_seconds", "net_rx_bytes", "net_tx_bytes", "block_read_bytes",
    "block_write_bytes", "quality",
)  # fmt: skip
DECIMALS = ("vcpu_seconds", "vcpu_limit_seconds", "memory_limit_gib_seconds", "memory_used_gib_seconds")
SCALE = Decimal("0.000000001")
Cells = dict[str, str | int | None]
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def period(start: str, end: str) -> tuple[dt.datetime, dt.datetime]:
    """``2026-11-01`` or ``2026-11-01T13:00`` each, UTC, whole hours.  Raises Invalid."""
    first, last = moment("start", start), moment("end", end)
    if last <= first:
        raise Invalid("end", _("The end is not after the start."))
    return first, last


def _decimal(value: Decimal) -> str:
    text = f"{value.quantize(SCALE, ROUND_HALF_EVEN):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cells(row: UsageRow, start: dt.datetime, end: dt.datetime) -> Cells:
    cells: Cells = {"period_start": iso(start), "period_end": iso(end)}
    for name in COLUMNS:
        if name not in cells:
            value = getattr(row, name)
            cells[name] = _decimal(value) if name in DECIMALS and value is not None else value
    return {name: cells[name] for name in COLUMNS}


def rows(tenant: Tenant | None, start: dt.datetime, end: dt.datetime, *, by: By) -> Iterator[Cells]:
    """``by`` total: a row for each container; by hour: one for each of its hours."""
    for row in usage(tenant, start, end, by=by):
        if row.window is None:
            yield _cells(row, start, end)
        else:
            yield _cells(row, row.window, row.window + HOUR)


def json_lines(tenant: Tenant, start: dt.datetime, end: dt.datetime) -> Iterator[str]:
    """Each hour of each container an object on a line of its own."""
    for cells in rows(tenant, start, end, by="hour"):
        yield json.dumps(cells) + "\n"


def csv_rows(tenant: Tenant | None, start: dt.datetime, end: dt.datetime, *, by: By = "total") -> Iterator[str]:
    """RFC 4180; a text that a spreadsheet would take for a formula is quoted by an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for found in rows(tenant, start, end, by=by):
        cells = found.values()
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def json_chunks(tenant: Tenant | None, start: dt.datetime, end: dt.datetime) -> Iterator[str]:
    """``{"period_start", "period_end", "containers": [...]}``; decimals are strings, so that no reader rounds them."""
    yield f'{{"period_start": "{iso(start)}", "period_end": "{iso(end)}", "containers": ['
    for number, cells in enumerate(rows(tenant, start, end, by="total")):
        yield (",\n" if number else "\n") + json.dumps(cells)
    yield "\n]}\n"
