"""The lines of a month's rating, as CSV or JSON, in a stream; what they sum to is on the invoice."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from decimal import Decimal

from console.metering.exports.usage import FORMULA, iso
from console.metering.models import Period, RatedLine
from console.metering.models.decimals import plain

COLUMNS = (
    "number", "hour", "container_id", "container_name", "image", "meter", "sku", "tier", "unit", "quantity", "unit_price",
    "list_unit_price", "cost", "list_cost", "quality", "correction",
)  # fmt: skip
Cells = dict[str, str | int | bool | None]


def csv_rows(period: Period) -> Iterator[str]:
    """RFC 4180; a text that a spreadsheet would take for a formula is quoted by an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for cells in _lines(period):
        values = cells.values()
        named = {cells["container_name"], cells["image"]}
        writer.writerow(
            [f"'{cell}" if cell in named and str(cell).startswith(FORMULA) else _word(cell) for cell in values]
        )
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def json_chunks(period: Period) -> Iterator[str]:
    """``{"period_start", "period_end", "lines": [...]}``; decimals are strings, so that no reader rounds them."""
    yield f'{{"period_start": "{iso(period.starts_at)}", "period_end": "{iso(period.ends_at)}", "lines": ['
    for number, cells in enumerate(_lines(period)):
        yield (",\n" if number else "\n") + json.dumps(cells)
    yield "\n]}\n"


def _word(cell: str | int | bool | None) -> str | int | None:
    return str(cell).lower() if isinstance(cell, bool) else cell


def _lines(period: Period) -> Iterator[Cells]:
    found = RatedLine.objects.filter(run=period.run_id).select_related("resource").order_by("number")
    for line in found.iterator(chunk_size=2000):
        yield _cells(line)


def _cells(line: RatedLine) -> Cells:
    def text(value: Decimal | None) -> str | None:
        return None if value is None else plain(value)

    values = (
        line.number, iso(line.window), line.resource.identity, line.resource.name, line.resource.image, line.meter, line.sku,
        line.tier, line.unit, plain(line.pricing_quantity), text(line.unit_price), text(line.list_unit_price),
        plain(line.cost), plain(line.list_cost), line.quality, line.correction,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))
